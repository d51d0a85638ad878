#!/bin/bash
# docker-compose 1.29's own integration suite against a daemon of its own. Arguments go to pytest.
# The client is installed from PyPI; its tests are in its repository alone: COMPOSE=FOLDER names a source tree, else the
# tag is cloned. Not run: what needs a swarm.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-$here/../../.venv/bin/python}
place=${CLIENTS_PLACE:-${XDG_CACHE_HOME:-$HOME/.cache}/corten-clients}/compose-v1
source=${COMPOSE:-$place/source}
mkdir -p "$place"

if [ ! -x "$place/venv/bin/pytest" ]; then
    python3 -m venv "$place/venv"
    # what its setup.py asks for, as far as it still installs: PyYAML 5 no longer builds, newer requests lack its scheme
    "$place/venv/bin/pip" install -q wheel 'setuptools<70' docopt 'PyYAML>=6' 'requests<2.29' 'urllib3<2' texttable \
        'websocket-client<1' distro 'docker[ssh]==6.1.3' dockerpty 'jsonschema<4' 'python-dotenv<1' ddt mock pytest pytest-timeout
    "$place/venv/bin/pip" install -q --no-deps --no-build-isolation docker-compose==1.29.2
fi
if [ ! -e "$source/tests/integration" ]; then
    git clone -q --depth 1 -b 1.29.2 https://github.com/docker/compose "$source"
fi

cd "$source"
HOME=$(mktemp -d) && export HOME
trap 'rm -rf "$HOME"' EXIT
export PATH="$place/venv/bin:$PATH"
"$python" "$here/with_engine.py" --socket /var/run/docker.sock --images compose \
    "$place/venv/bin/pytest" tests/integration -p no:cacheprovider -q -ra --timeout 120 "$@"
