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

if [ ! -x "$place/bin/docker-credential-pass" ]; then  # the password store that the suite asks for, by Debian's packages
    mkdir -p "$place/bin" "$place/packages"
    (cd "$place/packages" && apt-get -qq -o APT::Sandbox::User=root download golang-docker-credential-helpers pass tree &&
        for package in *.deb; do dpkg -x "$package" .; done &&
        cp usr/bin/docker-credential-pass usr/bin/pass usr/bin/tree "$place/bin/") || true
fi

cd "$source"
export DOCKER_TEST_API_VERSION=${DOCKER_TEST_API_VERSION:-1.45}
skip=()
for noun in api_swarm api_service api_secret api_config api_plugin models_swarm models_services models_nodes; do
    skip+=(--ignore "tests/integration/${noun}_test.py")
done
HOME=$(mktemp -d) && export HOME  # contexts and credentials of the suite, not of who runs it
mkdir "$HOME/.docker" && echo '{}' >"$HOME/.docker/config.json"
trap 'gpgconf --kill gpg-agent 2>/dev/null; rm -rf "$HOME"' EXIT
if [ -x "$place/bin/docker-credential-pass" ] && command -v gpg >/dev/null; then
    export PATH="$place/bin:$PATH" GNUPGHOME="$HOME/.gnupg"
    mkdir -m 700 "$GNUPGHOME"
    gpg --batch --quiet --passphrase '' --quick-gen-key 'Suite <suite@example.com>' default default never 2>/dev/null
    pass init suite@example.com >/dev/null
fi
"$python" "$here/with_engine.py" --socket /var/run/docker.sock --tcp \
    "$place/venv/bin/pytest" tests/integration "${skip[@]}" -p no:cacheprovider -q -ra --timeout 60 "$@"
