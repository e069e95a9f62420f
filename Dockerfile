# syntax=docker/dockerfile:1
# Images of all services: `docker build --target registrar .` or `buildah build --target registrar .`; `make images` does all.
# Targets: registrar signaling media-relay events operator. Non-root, fit for a read-only root file system, without
# HEALTHCHECK (Kubernetes probes), without compiler or package manager caches. Every dependency by hash; the base by
# digest where BASE names one (PYTHON=python@sha256:...), which makes builds reproducible with SOURCE_DATE_EPOCH.
ARG PYTHON=docker.io/library/python:3.12-slim-bookworm

FROM ${PYTHON} AS build
ARG SOURCE_DATE_EPOCH=0
ENV PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH}
# What native and eBPF parts are built with; none of it reaches an image.
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends gcc libc6-dev clang libbpf-dev make >/dev/null \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements.lock tools/image-requirements ./
RUN python image-requirements requirements.lock > run.lock \
 && python -m venv /opt/tools && /opt/tools/bin/pip install --quiet --require-hashes --no-deps -r requirements.lock \
 && python -m venv --without-pip /opt/pbx \
 && /opt/tools/bin/pip --python /opt/pbx/bin/python install --quiet --require-hashes --no-deps -r run.lock
COPY libs libs
COPY proto proto
COPY services services
# Native and eBPF parts are compiled where their Makefile is; the wheels take them along.
RUN if [ -f services/media-relay/native/Makefile ]; then make -C services/media-relay/native; fi
RUN /opt/tools/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheels libs/sip libs/runtime ./proto services/* \
 && /opt/tools/bin/pip --python /opt/pbx/bin/python install --quiet --no-deps /wheels/*.whl \
 && /opt/tools/bin/pip --python /opt/pbx/bin/python check \
 && find /opt/pbx -name __pycache__ -prune -exec rm -rf {} +

FROM ${PYTHON} AS base
ENV PATH=/opt/pbx/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 GRPC_VERBOSITY=ERROR PBX_DATA=/data
RUN groupadd --gid 10001 pbx && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin pbx \
 && install -d -o pbx -g pbx /data
COPY --from=build /opt/pbx /opt/pbx
COPY LICENSE NOTICE /usr/share/doc/sip-pbx/
LABEL org.opencontainers.image.licenses="Apache-2.0 AND (GPL-2.0-only OR MIT)" \
      org.opencontainers.image.source="https://github.com/sip-pbx/sip-pbx"
USER 10001:10001
WORKDIR /data
STOPSIGNAL SIGTERM

FROM base AS registrar
EXPOSE 9101 9111
ENTRYPOINT ["python", "-m", "pbx_registrar"]

FROM base AS signaling
EXPOSE 5060/udp 5060/tcp 9102 9112
ENTRYPOINT ["python", "-m", "pbx_signaling"]

FROM base AS media-relay
ENTRYPOINT ["python", "-m", "pbx_media_relay"]

FROM base AS events
EXPOSE 8080 9104
ENTRYPOINT ["python", "-m", "pbx_events"]

FROM base AS operator
EXPOSE 9115
ENTRYPOINT ["python", "-m", "pbx_operator"]
