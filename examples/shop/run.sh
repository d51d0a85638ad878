#!/bin/sh
# The shop without docker compose, as compose.yaml says it:
#   ./run.sh up [SERVICE…]    ./run.sh monolith    ./run.sh down
set -eu
here=$(cd "$(dirname "$0")" && pwd)
image=${IMAGE:-host}
common="-d --network shop --init --read-only --tmpfs /tmp --cap-drop ALL --expose 8080 -e PYTHONUNBUFFERED=1
    -e PYTHONDONTWRITEBYTECODE=1 --label com.docker.compose.project=shop"

start() {   # NAME, labels…
    name=$1; shift
    # shellcheck disable=SC2086  # words of `common` are meant
    corten run $common --name "$name" --label "com.docker.compose.service=$name" -v "$here/services:/shop:ro" "$@" >/dev/null
    until corten exec "$name" python3 -c 'import socket; socket.create_connection(("127.0.0.1", 8080))' 2>/dev/null; do
        [ "$(corten inspect --format '{{.State.Running}}' "$name")" = true ] || { corten logs "$name" >&2; exit 1; }
        sleep 0.1
    done
}

case ${1:-up} in
up)
    shift || true
    corten network inspect shop >/dev/null 2>&1 || corten network create shop >/dev/null
    for service in ${*:-users catalogue orders notify media}; do
        case $service in
        media) set -- --label corten.gateway.path=/media --label corten.gateway.methods=GET \
                      --label corten.gateway.policy=common ;;
        *) set -- ;;
        esac
        start "$service" "$@" "$image" python3 /shop/service.py "$service"
        echo "$service runs"
    done ;;
monolith)
    corten network inspect shop >/dev/null 2>&1 || corten network create shop >/dev/null
    start monolith --label corten.gateway.path=/ "$image" \
        python3 /shop/service.py users catalogue orders notify media
    # the first route starts the gateway's Envoy
    until [ "$(curl -s -o /dev/null -w '%{http_code}' "${GATEWAY:-http://localhost:8000}/catalogue")" = 200 ]; do sleep 0.1; done
    echo "the monolith runs" ;;
down)
    for name in monolith users catalogue orders notify media; do
        corten rm -f "$name" >/dev/null 2>&1 || true
    done
    corten network rm shop >/dev/null 2>&1 || true ;;
*) echo "usage: run.sh up [SERVICE…] | monolith | down" >&2; exit 2 ;;
esac
