# phi3tune's page in a container, for the CPU, or with `--build-arg DEVICE=cuda` for NVIDIA GPUs: see docs/docker.md.
ARG DEVICE=cpu

FROM python:3.12-slim AS cpu
# bitsandbytes' library for CPUs takes OpenMP from the system.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libgomp1 \
 && rm -rf /var/lib/apt/lists/*

FROM nvidia/cuda:13.0.2-runtime-ubuntu24.04 AS cuda
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libgomp1 python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*

# hadolint ignore=DL3006
FROM ${DEVICE}
# The image for CUDA has a user of that number already.
RUN { id 1000 >/dev/null 2>&1 || useradd --uid 1000 --user-group --no-create-home phi3tune; } \
 && install --directory --owner=1000 --group=1000 /home/phi3tune /workspace \
 && python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/home/phi3tune \
    HF_HOME=/workspace/huggingface \
    PHI3TUNE_HOME=/workspace \
    GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1

# A layer of its own: it is gigabytes, and changes with the requirements only. The argument is pip's own setting.
ARG PIP_EXTRA_INDEX_URL
RUN --mount=type=bind,source=requirements.txt,target=/src/requirements.txt \
    --mount=type=bind,source=requirements.lock,target=/src/requirements.lock \
    pip install --requirement /src/requirements.txt --constraint /src/requirements.lock
# What the build writes into the mounted folder is forgotten with it.
RUN --mount=type=bind,target=/src,rw \
    pip install --no-deps --no-build-isolation /src
# What deploy/kubernetes.yaml starts.
COPY deploy/train.sh /opt/phi3tune/deploy/train.sh

WORKDIR /home/phi3tune
USER 1000:1000
VOLUME /workspace
EXPOSE 7860
# 503 is what a hosted page says that has all the visitors it takes: it is well.
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --retries=3 \
  CMD ["python", "-c", "import http.client, os; page = http.client.HTTPConnection('127.0.0.1', int(os.environ['GRADIO_SERVER_PORT']), timeout=4); page.request('GET', '/'); raise SystemExit(page.getresponse().status not in (200, 503))"]
# As process 1, Python hears this one and not SIGTERM.
STOPSIGNAL SIGINT
CMD ["phi3tune", "app"]
