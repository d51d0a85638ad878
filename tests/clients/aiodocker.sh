#!/bin/bash
# aiodocker's own suite (no swarm family) against a daemon of its own. Arguments go to pytest.
# The client is installed from PyPI; its tests come with its source: AIODOCKER=FOLDER names a source tree.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-$here/../../.venv/bin/python}
place=${CLIENTS_PLACE:-${XDG_CACHE_HOME:-$HOME/.cache}/corten-clients}/aiodocker
source=${AIODOCKER:-$place/source}
mkdir -p "$place"

if [ ! -x "$place/venv/bin/pytest" ]; then
    python3 -m venv "$place/venv"
    "$place/venv/bin/pip" install -q aiodocker 'pytest<10' pytest-asyncio pytest-timeout packaging async-timeout testcontainers
fi
if [ ! -e "$source/tests" ]; then
    "$place/venv/bin/pip" download -q --no-deps --no-binary :all: -d "$place" aiodocker
    mkdir -p "$source" && tar -xzf "$place"/aiodocker-*.tar.gz -C "$source" --strip-components 1
fi

cd "$source"
export TESTCONTAINERS_RYUK_DISABLED=true
HOME=$(mktemp -d) && export HOME
trap 'rm -rf "$HOME"' EXIT
skip=()
for noun in swarm services nodes secrets configs ssh; do skip+=(--ignore "tests/test_$noun.py"); done
export DAEMON_FLAGS="--insecure-registry 10.0.0.0/8"  # registries that the suite runs in containers
"$python" "$here/with_engine.py" --socket /var/run/docker.sock --images python \
    "$place/venv/bin/pytest" tests "${skip[@]}" -o addopts= -o filterwarnings=default -p no:cacheprovider -q -ra --timeout 90 "$@"
