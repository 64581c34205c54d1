# Token Tracker: one image for gateway, API, dashboard and worker; docker-compose.yml says what each runs.
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
RUN python -m venv --without-pip /opt/token-tracker
# The dependencies are a layer of their own: they change less often than the program.
COPY requirements.lock ./
RUN python -m pip --python /opt/token-tracker install -q --no-compile --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY token_tracker token_tracker
RUN python -m pip --python /opt/token-tracker install -q --no-compile --no-deps --no-build-isolation --no-index .
COPY deploy/shrink deploy/shrink
RUN deploy/shrink /opt/token-tracker

FROM python:${PYTHON}
# The bytecode was compiled above; at run time nothing writes beside it, and the root file system may be read-only.
ENV PATH=/opt/token-tracker/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    TOKEN_TRACKER_CONFIG=/etc/token-tracker/proxy.yaml \
    TOKEN_TRACKER_DATA_DIR=/data
RUN useradd --system --uid 10001 --home-dir /tmp --no-create-home token-tracker \
    && install -d -o 10001 -g 10001 -m 0700 /data
COPY --from=build /opt/token-tracker /opt/token-tracker
COPY config/proxy.yaml /etc/token-tracker/proxy.yaml
WORKDIR /opt/token-tracker
USER 10001:10001
EXPOSE 8000 5000 8050 9100
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=90s CMD ["python", "-m", "token_tracker.healthcheck", "gateway"]
CMD ["python", "-m", "token_tracker.run", "proxy"]
