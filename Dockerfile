# What a worker, the bootstrap, single nights and the reports site run from in production: docs/operating.md has the
# commands. No Node.js, no PostgreSQL, no test tools: it adds 704 MB to the image of Python, 701 of them packages, most
# of it pyarrow, duckdb, numpy, pandas, Prefect and matplotlib.

# The site's JavaScript, as api/package-lock.json pins it. Node.js stays in this stage.
FROM node:24-slim AS javascript
WORKDIR /api
COPY api/package.json api/package-lock.json ./
RUN npm ci --ignore-scripts --omit=dev --no-audit --no-fund

FROM python:3.11-slim AS build
WORKDIR /build
RUN python -m venv /venv
COPY requirements-worker.txt ./
# Four packages bring 70 MB of their own tests, which nothing imports.
RUN /venv/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements-worker.txt \
 && rm -r /venv/lib/python3.11/site-packages/pandas/tests /venv/lib/python3.11/site-packages/pyarrow/tests \
 && find /venv/lib/python3.11/site-packages/numpy /venv/lib/python3.11/site-packages/matplotlib \
      -type d -name tests -prune -exec rm -r {} +
COPY api/__init__.py api/vendor.py api/
COPY --from=javascript /api/node_modules api/node_modules
RUN /venv/bin/python -m api.vendor --lay-out

FROM python:3.11-slim
ARG VERSION=unknown
LABEL org.opencontainers.image.title="supabase-nightly" org.opencontainers.image.version="${VERSION}"
# A run's folder holds personal data while it runs: give it a disk of its own, not the image's layers.
RUN useradd --create-home --uid 10001 etl && install -d -o etl -m 700 /data
COPY --from=build /venv /venv
WORKDIR /app
# Code belongs to root: the account that runs it cannot change it.
COPY flows flows
COPY tasks tasks
COPY api api
COPY --from=build /build/api/static/vendor api/static/vendor
COPY deploy deploy
COPY scripts scripts
COPY supabase supabase
COPY prefect.yaml requirements-worker.txt ./
VOLUME /data

ENV PATH=/venv/bin:$PATH \
    ETL_CODE_VERSION=${VERSION} \
    ETL_PROJECT_DIR=/app \
    ETL_DATA_DIR=/data \
    ETL_CACHE_DIR=/data/cache \
    PREFECT_HOME=/data/prefect \
    PREFECT_SERVER_UI_STATIC_DIRECTORY=/data/prefect/ui \
    HEALTH_URL=http://127.0.0.1:8080/health \
    PREFECT_LOGGING_EXTRA_LOGGERS=flows,tasks \
    PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW=ignore \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    DO_NOT_TRACK=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER etl
# The worker's own answer: unhealthy when it has not asked the server for runs for a while. The site and
# Prefect's server set HEALTH_URL to their own.
HEALTHCHECK --interval=60s --timeout=10s --start-period=60s \
  CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(os.environ['HEALTH_URL'], timeout=5)"]
# SIGTERM ends the worker in order; give it more than the default 10 s (docker stop -t 60).
CMD ["prefect", "worker", "start", "--pool", "nightly-pool", "--type", "process", "--with-healthcheck"]
