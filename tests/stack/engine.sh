#!/usr/bin/env bash
# Makes what `pytest -m engine` needs, as far as this machine allows: an engine, public images or their stand-ins, and the two of ours.
# Says on its last line what it did, or why it could not; never fails, since the tests say "not run" where there is no engine.
cd "$(dirname "$0")/../.." || exit 0
log=$(mktemp)
did=()

give_up() {
    tail -n 3 "$log" >&2
    echo "no engine for the tests of the stack: $1"
    exit 0
}

bounded() { # SECONDS COMMAND...
    timeout --kill-after=10 "$@" >> "$log" 2>&1 < /dev/null
}

has_compose() { bounded 30 docker compose version || bounded 30 docker-compose version; }
answers() { bounded 30 docker info; }

lacking=()
command -v docker > /dev/null || lacking+=(docker.io)
command -v docker > /dev/null && has_compose || lacking+=(docker-compose)
if [ ${#lacking[@]} -gt 0 ]; then
    [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null || give_up "${lacking[*]} not installed, and this is not root with apt-get"
    export DEBIAN_FRONTEND=noninteractive
    bounded 300 apt-get update -q
    bounded 900 apt-get install -yq --no-install-recommends "${lacking[@]}" iptables || give_up "apt-get could not install ${lacking[*]}"
    did+=("installed ${lacking[*]}")
fi

if ! answers; then
    command -v dockerd > /dev/null && [ "$(id -u)" = 0 ] || give_up "none answers, and none can be started by this user"
    # in a session of its own: it outlives this script
    setsid nohup dockerd > "$log.dockerd" 2>&1 < /dev/null &
    for _ in $(seq 60); do answers && break; sleep 1; done
    answers || { tail -n 3 "$log.dockerd" >&2; give_up "dockerd did not start"; }
    did+=("started dockerd")
fi

wanted="python:3.11-slim postgres:15 haproxy:2.6 prom/prometheus:v2.42.0"
for image in $wanted; do
    docker image inspect "$image" > /dev/null 2>&1 || bounded 60 docker pull -q "$image" || missing="$missing $image"
done
if [ -n "$missing" ]; then
    [ "$(id -u)" = 0 ] || give_up "no images$missing, and stand-ins are made by root"
    if ! command -v debootstrap > /dev/null; then
        bounded 300 apt-get update -q
        bounded 300 apt-get install -yq --no-install-recommends debootstrap || give_up "apt-get could not install debootstrap"
    fi
    bounded 1800 python3 tests/stack/images.py || give_up "tests/stack/images.py could not make$missing"
    did+=("made stand-ins for$missing")
fi

# the two of ours are built under names of the tests, so that nobody's stack gets another image
export SYSTEM_IMAGE=mlekit-system:tests WORLD_IMAGE=mlekit-world:tests POSTGRES_PASSWORD=none
docker buildx version > /dev/null 2>&1 || export DOCKER_BUILDKIT=0 COMPOSE_DOCKER_CLI_BUILD=0
if docker compose version > /dev/null 2>&1; then compose=(docker compose); else compose=(docker-compose); fi
bounded 1500 nice "${compose[@]}" build mlflow world || give_up "the images of the system could not be built"
did+=("built the images of the system")

echo "an engine for the tests of the stack: $(IFS=';'; echo "${did[*]}")"
