#!/usr/bin/env bash
# Trains in containers on this machine, and shows the head's output:
#
#     docker/up.sh [--gpu] [--dmlab] [--containers N] [--detach] PRESET [--field value ...]
#
# PRESET and fields are those of `launch.py train`. The run's actors are spread over N actor containers (2). A run
# of that name that is there already goes on: the name is the preset's, or RUN=name. docs/docker.md has the rest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

usage() {
    echo "usage: docker/up.sh [--gpu] [--dmlab] [--containers N] [--detach] PRESET [--field value ...]" >&2
    exit 2
}

files=docker-compose.yml image=evertrace containers=2 detach=''
while [[ ${1-} == -* ]]; do
    case $1 in
        --gpu) files+=:docker-compose.gpu.yml ;;
        --dmlab) files+=:docker-compose.dmlab.yml image=evertrace-dmlab ;;
        --detach) detach=yes ;;
        --containers)
            [[ ${2-} =~ ^[1-9][0-9]*$ ]] || usage
            containers=$2
            shift
            ;;
        *) usage ;;
    esac
    shift
done
(($#)) || usage
for word in "$@" "${RUN-}"; do
    # The words go through the file .env, which knows no quotes that all versions of docker-compose agree on.
    if [[ ! $word =~ ^[A-Za-z0-9_.,:/=+@%-]*$ ]]; then
        echo "docker/up.sh: $word: only letters, digits and _.,:/=+@%- can be passed on to a container" >&2
        exit 2
    fi
done

if docker compose version >/dev/null 2>&1; then
    compose=(docker compose)
elif command -v docker-compose >/dev/null; then
    compose=(docker-compose)
else
    echo "docker/up.sh: neither 'docker compose' nor 'docker-compose' is installed" >&2
    exit 1
fi

echo "building the image; the first time it takes minutes"
"${compose[@]}" -f docker-compose.yml build head >build.log 2>&1 || { tail -n 30 build.log >&2 && exit 1; }
export COMPOSE_FILE=$files
if [[ $image != evertrace ]]; then
    "${compose[@]}" build head >build.log 2>&1 || { tail -n 30 build.log >&2 && exit 1; }
fi

# A bad command line ends here, with launch.py's message and exit code.
read -r cpus actors < <(docker run --rm "$image" python docker/head.py plan "$@" || echo "failed $?")
[[ $cpus != failed ]] || exit "$actors"

# docker-compose reads these from the file .env, so that `docker-compose stop`, `up -d` and `logs` in this folder
# mean this run from now on. Lines of yours that set something else stay.
version=$(git describe --always --dirty --abbrev=12 2>/dev/null || true)  # empty outside a clone
own='^(COMPOSE_FILE|TRAIN|RUN|ACTOR_CONTAINERS|ACTOR_CPUS|EVERTRACE_VERSION)='
touch .env
kept=$(grep -Ev "$own" .env || true)
{
    [[ -z $kept ]] || echo "$kept"
    echo "COMPOSE_FILE=$files"
    echo "TRAIN=$* --num-actors $actors"
    echo "RUN=${RUN-}"
    echo "ACTOR_CONTAINERS=$containers"
    echo "ACTOR_CPUS=$(((cpus + containers - 1) / containers))"
    echo "EVERTRACE_VERSION=$version"
} >.env.new
mv .env.new .env
unset RUN

# The key goes through a pipe into a file of the volume `secrets`: no variable and no word of a command line, which
# `docker inspect` and `ps` show.
if [[ ${WANDB_API_KEY-} ]]; then
    "${compose[@]}" run --rm -T --no-deps head python docker/head.py key <<<"$WANDB_API_KEY"
fi

echo "starting $actors actors in $containers containers, and the head"
"${compose[@]}" up --detach --scale actor="$containers"
echo "Ray's dashboard: http://127.0.0.1:${DASHBOARD_PORT:-8265}, the token it asks for: ${compose[*]} exec head cat /token/ray"
echo "stop, with a checkpoint: ${compose[*]} stop; go on: ${compose[*]} up --detach (both in $PWD)"
[[ $detach ]] || exec "${compose[@]}" logs --follow head
