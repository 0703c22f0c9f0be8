# catpose for GPU machines. The driver is the machine's, CUDA comes with PyTorch's own packages: the base can be small.
#
#   docker build -t catpose .
#   docker run --gpus all --shm-size 2g -v "$PWD/data:/catpose/data" -v "$PWD/runs:/catpose/runs" catpose \
#       python -m catpose.sweep --config sweeps/learning_rate.yaml
#
# --build-arg BASE=… takes any base with Python 3.11 or later, its venv module and certificates.
ARG BASE=python:3.12.12-slim-bookworm
FROM ${BASE}

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

WORKDIR /catpose

# The libraries are one layer, which a change of the code leaves as it is.
COPY pyproject.toml constraints.txt ./
COPY catpose/__init__.py catpose/version.py catpose/
RUN --mount=type=cache,target=/root/.cache/pip \
    touch README.md \
    && python3 -m venv /opt/venv \
    && pip install -c constraints.txt -e ".[postgres,mysql,dashboard,reports]" \
    && useradd --uid 1000 --no-create-home --home-dir /tmp catpose \
    && install --directory --owner=1000 --group=1000 data runs

COPY experiments experiments/
COPY sweeps sweeps/
COPY catpose catpose/

# Caches lie where any user may write, so that `docker run --user "$(id -u)"` works too.
ENV HOME=/tmp \
    XDG_CACHE_HOME=/tmp/cache \
    MPLCONFIGDIR=/tmp/cache/matplotlib \
    WANDB_CONFIG_DIR=/tmp/cache/wandb \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000:1000

# The default job: the README's study, on cats that it draws first where they aren't there yet.
CMD ["sh", "-c", "python -m catpose.prepare drawn && exec python -m catpose.sweep --config sweeps/quick.yaml"]
