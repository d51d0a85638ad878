#!/bin/bash
# docker-py's integration suite (no swarm, no plugins) against a daemon of its own. Arguments go to pytest.
#   tests/clients/docker_py.sh                       all of it
#   tests/clients/docker_py.sh -k attach -x          a part
#   ENGINE_SOCKET=/run/docker.sock …                 against another engine, to compare
# The client is installed from its source distribution; DOCKER_PY=FOLDER names a source tree that is there already.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-$here/../../.venv/bin/python}
place=${CLIENTS_PLACE:-${XDG_CACHE_HOME:-$HOME/.cache}/corten-clients}/docker-py
source=${DOCKER_PY:-$place/source}
mkdir -p "$place"

if [ ! -x "$place/venv/bin/pytest" ]; then
    python3 -m venv "$place/venv"
    "$place/venv/bin/pip" install -q paramiko pytest pytest-timeout websocket-client
fi
if [ ! -e "$source/tests/integration" ]; then
    "$place/venv/bin/pip" download -q --no-deps --no-binary :all: -d "$place" docker
    mkdir -p "$source" && tar -xzf "$place"/docker-*.tar.gz -C "$source" --strip-components 1
fi
"$place/venv/bin/python" -c 'import docker' 2>/dev/null ||
    SETUPTOOLS_SCM_PRETEND_VERSION=${DOCKER_PY_VERSION:-7.1.0} "$place/venv/bin/pip" install -q "$source"

cd "$source"
export DOCKER_TEST_API_VERSION=${DOCKER_TEST_API_VERSION:-1.45}
skip=()
for noun in api_swarm api_service api_secret api_config api_plugin models_swarm models_services models_nodes; do
    skip+=(--ignore "tests/integration/${noun}_test.py")
done
HOME=$(mktemp -d) && export HOME  # contexts and credentials of the suite, not of who runs it
mkdir "$HOME/.docker" && echo '{}' >"$HOME/.docker/config.json"
trap 'rm -rf "$HOME"' EXIT
"$python" "$here/with_engine.py" --socket /var/run/docker.sock \
    "$place/venv/bin/pytest" tests/integration "${skip[@]}" -p no:cacheprovider -q -ra --timeout 60 "$@"
