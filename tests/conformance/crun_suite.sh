#!/bin/bash
# crun's own Python tests with corten-oci in crun's place: crun_suite.sh CHECKOUT [test_x.py ...]
# CHECKOUT is a checkout of containers/crun; needs gcc and root, and should run where nothing else does (mounts, cgroups
# and pids of its own). Prints a line a file, then what failed, then the sum. Nothing is fetched.
set -u
here=$(cd "$(dirname "$0")" && pwd)
checkout=$(cd "$1" && pwd) && shift || exit 2
work=$(mktemp -d /var/tmp/corten-crun-XXXXXX)
trap 'rm -rf "$work"' EXIT
printf '#define HAVE_ERROR_H 1\n#define HAVE_LINUX_IOPRIO_H 1\n' >"$work/config.h"
gcc -O1 -static -I"$work" -o "$work/init" "$checkout/tests/init.c" 2>"$work/gcc" || { cat "$work/gcc"; exit 2; }
export INIT=$work/init OCI_RUNTIME=$here/crun_flags.sh PYTHONPATH=$checkout/tests:$here/crun_modules
mkdir "$work/runs"
cd "$work/runs" || exit 2
[ $# -gt 0 ] || set -- $(cd "$checkout/tests" && ls test_*.py)
for file in "$@"; do
    timeout 300 python3 "$checkout/tests/$file" >"$work/$file.tap" 2>/dev/null
    echo "$file: $(grep '^ok' "$work/$file.tap" | grep -vc '#SKIP') ok," \
        "$(grep -c '^ok.*#SKIP' "$work/$file.tap") skipped, $(grep -c '^not ok' "$work/$file.tap") failed"
done
cat "$work"/*.tap >"$work/all"
grep '^not ok' "$work/all"
echo "sum: $(grep '^ok' "$work/all" | grep -vc '#SKIP') ok, $(grep -c '^ok.*#SKIP' "$work/all") skipped," \
    "$(grep -c '^not ok' "$work/all") failed"
