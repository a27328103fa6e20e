# The app alone; Redis and OmniFund are elsewhere. Configuration: environment variables (README.md).
#   docker build -t omnifund-app . && docker run --env-file .env -p 8000:8000 omnifund-app

FROM python:3.13-slim-bookworm AS build
RUN python -m venv /venv
COPY requirements.txt .
RUN /venv/bin/pip install --no-cache-dir --disable-pip-version-check --requirement requirements.txt

FROM python:3.13-slim-bookworm
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PATH=/venv/bin:$PATH
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin app
WORKDIR /srv/app
COPY --from=build /venv /venv
COPY app.py config.py gunicorn.conf.py ./
COPY omnifund omnifund
COPY web web
COPY templates templates
COPY static static
USER app
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
CMD ["gunicorn", "--bind", "0.0.0.0:8000", "app:create_app()"]
