# The app alone; Redis and OmniFund are elsewhere. Configuration: environment variables (docs/configuration.md).
#
#   docker build -t omnifund-app .
#   docker run --env-file .env --read-only --tmpfs /tmp --cap-drop ALL -p 8000:8000 omnifund-app

FROM python:3.15-slim-trixie AS build
RUN python -m venv /venv
COPY requirements.txt /build/
RUN /venv/bin/pip install --no-cache-dir --disable-pip-version-check --requirement /build/requirements.txt \
    # What only installs packages is of no use to a running app, or of use to the wrong people.
    && /venv/bin/pip uninstall --yes pip

FROM python:3.15-slim-trixie
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# The same IDs in every build, so that a volume's owner stays the same. pip could only install things.
RUN groupadd --gid 10001 app \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin app \
    && rm -rf /usr/local/bin/pip* /usr/local/lib/python3.*/ensurepip /usr/local/lib/python3.*/site-packages/pip*
WORKDIR /srv/app
COPY --from=build /venv /venv
COPY app.py cli.py config.py doctor.py redis_url.py gunicorn.conf.py ./
COPY omnifund omnifund
COPY web web
COPY demo demo
COPY templates templates
COPY static static
# The app cannot write here, so Python would compile these at every start.
RUN python -m compileall -q .
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=10s --start-period=10s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=9)"]
CMD ["gunicorn", "--bind", "0.0.0.0:8000", "app:create_app()"]
