#!/bin/bash
# testcontainers-python's own core suite against a daemon of its own. Arguments go to pytest.
# The client is installed from PyPI; its tests are in its repository alone: TESTCONTAINERS=FOLDER names a source tree,
# else the tag of the installed version is cloned. Not run: docker in docker, whose images are built from the hub's, and
# what imports other people's clients of every database.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-$here/../../.venv/bin/python}
place=${CLIENTS_PLACE:-${XDG_CACHE_HOME:-$HOME/.cache}/corten-clients}/testcontainers
source=${TESTCONTAINERS:-$place/source}
mkdir -p "$place"

if [ ! -x "$place/venv/bin/pytest" ]; then
    python3 -m venv "$place/venv"
    "$place/venv/bin/pip" install -q testcontainers 'pytest>=9' pytest-asyncio pytest-mock pytest-timeout anyio bcrypt paramiko
fi
if [ ! -e "$source/tests/core" ]; then
    version=$("$place/venv/bin/pip" show testcontainers | sed -n 's/^Version: //p')
    git clone -q --depth 1 -b "testcontainers-v$version" https://github.com/testcontainers/testcontainers-python "$source"
fi
[ -x "$place/docker-compose" ] || bash "$here/fetch_plugin.sh" "$place" docker-compose

cd "$source"
HOME=$(mktemp -d) && export HOME
trap 'rm -rf "$HOME"' EXIT
mkdir -p "$HOME/.docker/cli-plugins" && ln -s "$place/docker-compose" "$HOME/.docker/cli-plugins/docker-compose"
export DAEMON_FLAGS="--insecure-registry 10.0.0.0/8"  # registries that the suite runs in containers
"$python" "$here/with_engine.py" --socket /var/run/docker.sock --images testcontainers \
    "$place/venv/bin/pytest" tests/core -p no:cacheprovider -o log_cli=false -q -ra --timeout 120 \
    --ignore tests/core/test_legacy_module_imports.py --ignore tests/core/test_community_definition.py \
    --deselect tests/core/test_docker_in_docker.py::test_dood --deselect tests/core/test_docker_in_docker.py::test_dind "$@"
