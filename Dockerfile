# syntax=docker/dockerfile:1
# docker build -t moderation .
# docker run --read-only -p 127.0.0.1:8080:8080 -v moderation-data:/data --stop-timeout 40 moderation --upstream https://…/compatible-mode/v1

ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY scripts/install scripts/install
COPY classifiers/ngram classifiers/ngram
COPY classifiers/small classifiers/small
COPY policies policies
COPY moderation moderation
# The virtual environment is made where it will lie; bytecode is compiled here because the running root is read-only.
RUN scripts/install /opt/moderation && /opt/moderation/bin/python -m compileall -q /opt/moderation/lib

FROM python:${PYTHON_VERSION}-slim
LABEL org.opencontainers.image.title="moderation" \
      org.opencontainers.image.description="A moderation sidecar for LLM apps on Qwen" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin moderation \
    && install -d -o moderation -g moderation -m 0700 /data
COPY --from=build /opt/moderation /opt/moderation
ENV PATH=/opt/moderation/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MODERATION_HOST=0.0.0.0 \
    MODERATION_PORT=8080 \
    MODERATION_DATA=/data
USER 10001:10001
WORKDIR /data
VOLUME ["/data"]
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"MODERATION_PORT\"]}/readyz', timeout=2)"]
ENTRYPOINT ["moderation", "serve"]
