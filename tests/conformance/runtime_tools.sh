#!/bin/bash
# The validation programs of opencontainers/runtime-tools: runtime_tools.sh CHECKOUT RUNTIME [program ...]
# CHECKOUT is a checkout; its programs are built with go (vendored, nothing is fetched). RUNTIME is runc, or anything
# with runc's command line; tests/conformance/corten_oci.sh is ours. A program passes when it ends with 0, printed `ok`
# and no `not ok`. Run it for two runtimes and compare: some programs fail with every runtime.
set -u
checkout=$(cd "$1" && pwd) && runtime=$2 && shift 2 || exit 2
cd "$checkout" || exit 2
mkdir -p built
[ -x runtimetest ] || go build -tags "netgo osusergo" -ldflags "-extldflags -static" -o runtimetest ./cmd/runtimetest ||
    exit 2
[ $# -gt 0 ] || set -- $(cd validation && ls -d */ | tr -d / | grep -v '^util$')
for name in "$@"; do
    [ -x "built/$name" ] || go build -o "built/$name" "./validation/$name" || continue
    RUNTIME=$runtime timeout 60 "built/$name" >"built/$name.tap" 2>&1
    code=$?
    good=$(grep -cE '^\s*ok' "built/$name.tap")
    bad=$(grep -cE '^\s*not ok' "built/$name.tap")
    [ $code = 0 ] && [ "$bad" = 0 ] && [ "$good" -gt 0 ] && verdict=pass || verdict=fail
    echo "$verdict $name (exit $code, $good ok, $bad not ok)"
done
