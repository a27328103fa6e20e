# Local OmniFund, for trying the app out. Never for real merchants.

FROM python:3.15-slim-trixie AS build
RUN python -m venv /venv
COPY requirements.txt /build/
RUN /venv/bin/pip install --no-cache-dir --disable-pip-version-check --requirement /build/requirements.txt \
    && /venv/bin/pip uninstall --yes pip

FROM python:3.15-slim-trixie
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# The same IDs in every build, so that the owner of a volume stays the same. pip could only install things.
RUN groupadd --gid 10001 app \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin app \
    && rm -rf /usr/local/bin/pip* /usr/local/lib/python3.*/ensurepip /usr/local/lib/python3.*/site-packages/pip*
WORKDIR /srv/local-omnifund
COPY --from=build /venv /venv
COPY gunicorn.conf.py ./
COPY local_omnifund local_omnifund
RUN python -m compileall -q .
USER 10001:10001
EXPOSE 9000
CMD ["gunicorn", "--bind", "0.0.0.0:9000", "local_omnifund:create_app()"]
