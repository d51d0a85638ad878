#!/bin/bash
# docker-py's integration suite (no swarm, no plugins) against a daemon of its own. Arguments go to pytest.
#   tests/clients/docker_py.sh                       all of it
#   tests/clients/docker_py.sh -k attach -x          a part
#   ENGINE_SOCKET=/run/docker.sock …                 against another engine, to compare
# The client is installed from PyPI; its tests are in its repository alone: DOCKER_PY=FOLDER names a source tree, else
# the tag of the installed version is cloned. Over TCP, as its makers run it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-$here/../../.venv/bin/python}
place=${CLIENTS_PLACE:-${XDG_CACHE_HOME:-$HOME/.cache}/corten-clients}/docker-py
source=${DOCKER_PY:-$place/source}
mkdir -p "$place"

if [ ! -x "$place/venv/bin/pytest" ]; then
    python3 -m venv "$place/venv"
    "$place/venv/bin/pip" install -q 'docker[ssh,websockets]' pytest pytest-timeout
fi
if [ ! -e "$source/tests/integration" ]; then
    version=$("$place/venv/bin/pip" show docker | sed -n 's/^Version: //p')
    git clone -q --depth 1 -b "$version" https://github.com/docker/docker-py "$source"
fi

cd "$source"
export DOCKER_TEST_API_VERSION=${DOCKER_TEST_API_VERSION:-1.45}
skip=()
for noun in api_swarm api_service api_secret api_config api_plugin models_swarm models_services models_nodes; do
    skip+=(--ignore "tests/integration/${noun}_test.py")
done
HOME=$(mktemp -d) && export HOME  # contexts and credentials of the suite, not of who runs it
mkdir "$HOME/.docker" && echo '{}' >"$HOME/.docker/config.json"
trap 'rm -rf "$HOME"' EXIT
"$python" "$here/with_engine.py" --socket /var/run/docker.sock --tcp \
    "$place/venv/bin/pytest" tests/integration "${skip[@]}" -p no:cacheprovider -q -ra --timeout 60 "$@"
