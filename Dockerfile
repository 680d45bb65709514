# What a worker runs from in production:
#   docker build -t supabase-nightly .
#   docker run --env-file .env -e PREFECT_API_URL=https://…/api supabase-nightly
# The same image sets up the server once after each deploy: … supabase-nightly python -m scripts.bootstrap
FROM python:3.11-slim

RUN useradd --create-home --uid 10001 etl
WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir --no-deps --require-hashes -r requirements.txt
COPY --chown=etl flows flows
COPY --chown=etl tasks tasks
COPY --chown=etl scripts scripts
COPY --chown=etl deploy deploy
COPY --chown=etl local_stack local_stack
COPY --chown=etl supabase supabase
COPY --chown=etl prefect.yaml ./
# A run's folder holds personal data while it is at work: give it a disk of its own, not the image's layers.
RUN mkdir -p /data && chown etl /data && chmod 700 /data
VOLUME /data

ENV ETL_PROJECT_DIR=/app \
    ETL_DATA_DIR=/data \
    PREFECT_HOME=/data/prefect \
    PREFECT_LOGGING_EXTRA_LOGGERS=flows,tasks \
    PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW=ignore \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    DO_NOT_TRACK=1 \
    PYTHONUNBUFFERED=1
USER etl
# SIGTERM ends the worker in order; give it more than the default 10 s (docker stop -t 60).
CMD ["prefect", "worker", "start", "--pool", "nightly-pool", "--type", "process", "--with-healthcheck"]
