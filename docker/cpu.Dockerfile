# yoloqat for CPUs: torch, ONNX Runtime and OpenVINO. Build it from the root of the repository:
#   docker build -f docker/cpu.Dockerfile -t yoloqat:cpu .
FROM python:3.12-slim-bookworm

ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

# OpenCV loads these two
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/yoloqat
COPY pyproject.toml README.md LICENSE ./
COPY scripts/constraints.txt scripts/constraints.txt
COPY yoloqat yoloqat
COPY weights weights
COPY data data
# an index with torch's builds for CPUs alone spares gigabytes of CUDA libraries
ARG PIP_EXTRA_INDEX_URL
RUN python -m pip install --constraint scripts/constraints.txt .

RUN useradd --uid 1000 yoloqat && install --directory --owner yoloqat /work
# caches and settings of libraries, also where `docker run --user` names a user whom the image does not know
ENV HOME=/tmp \
    USER=yoloqat
USER yoloqat
WORKDIR /work
ENTRYPOINT ["yoloqat"]
CMD ["--help"]
