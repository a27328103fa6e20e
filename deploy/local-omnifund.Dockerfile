# Local OmniFund, for trying the app out. Never for real merchants.
FROM python:3.13-slim-bookworm
ENV PYTHONUNBUFFERED=1
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin app
WORKDIR /srv/local-omnifund
COPY requirements.txt ./
RUN pip install --no-cache-dir --disable-pip-version-check --requirement requirements.txt
COPY gunicorn.conf.py ./
COPY local_omnifund local_omnifund
USER 10001
EXPOSE 9000
CMD ["gunicorn", "--bind", "0.0.0.0:9000", "local_omnifund:create_app()"]
