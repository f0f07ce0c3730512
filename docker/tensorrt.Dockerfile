# yoloqat for NVIDIA GPUs: torch with CUDA, and TensorRT from its Python package. Build it from the root of the repository:
#   docker build -f docker/tensorrt.Dockerfile -t yoloqat:tensorrt .
# CUDA's libraries come with torch's and TensorRT's packages; the driver comes from the host.
FROM nvidia/cuda:13.0.2-base-ubuntu24.04

ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PATH=/opt/venv/bin:$PATH

# Ubuntu 24.04 has Python 3.12; OpenCV loads the last two; gcc and Python's headers serve Triton's compiler
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev python3-dev python3-venv libgl1 libglib2.0-0t64 \
 && rm -rf /var/lib/apt/lists/* \
 && python3 -m venv /opt/venv

WORKDIR /opt/yoloqat
COPY pyproject.toml README.md LICENSE ./
COPY scripts/constraints.txt scripts/constraints.txt
COPY yoloqat yoloqat
COPY weights weights
COPY data data
RUN python -m pip install --constraint scripts/constraints.txt ".[tensorrt]"

# the base image has a user of number 1000 already
RUN useradd --uid 1001 yoloqat && install --directory --owner yoloqat /work
# caches and settings of libraries, also where `docker run --user` names a user whom the image does not know
ENV HOME=/tmp \
    USER=yoloqat
USER yoloqat
WORKDIR /work
ENTRYPOINT ["yoloqat"]
CMD ["--help"]
