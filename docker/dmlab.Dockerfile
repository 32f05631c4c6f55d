# Evertrace with DeepMind Lab. No package index has the engine: build its wheel yourself, on Debian 12 with the
# image's Python, after https://github.com/google-deepmind/lab/blob/master/docs/users/build.md and
# `launch.py doctor`; then put it beside this file, and from the root of the clone:
#
#     docker build -t evertrace -f docker/Dockerfile .
#     docker build -t evertrace-dmlab -f docker/dmlab.Dockerfile .
ARG BASE=evertrace
# hadolint ignore=DL3006
FROM ${BASE}

USER 0
# What the engine links against, Mesa's renderer without a screen, and what packs the maps that it compiles.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        libegl1 libgl1 libglu1-mesa libjpeg62-turbo liblua5.1-0 libosmesa6 libsdl2-2.0-0 zip \
    && rm -rf /var/lib/apt/lists/*

# constraints.txt is named so that this step is reached without a wheel too.
COPY constraints.txt docker/deepmind_lab-*.whl /tmp/dmlab/
RUN set -- /tmp/dmlab/deepmind_lab-*.whl \
    && if [ ! -f "$1" ]; then \
        echo "no DeepMind Lab wheel: build deepmind_lab-*.whl (docker/dmlab.Dockerfile says where it is explained)" >&2; \
        echo "and put it into docker/, beside dmlab.Dockerfile" >&2; \
        exit 1; \
    fi \
    && pip install --no-cache-dir -c constraints.txt "$@" \
    && rm -r /tmp/dmlab \
    && python -c "import deepmind_lab"
USER 1000
