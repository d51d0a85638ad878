#!/bin/bash
# corten-oci behind crun's flags: --cgroup-manager says what runc's --systemd-cgroup says, and --config names another
# file than the bundle's config.json, which corten-oci has as runc has it.
words=()
while [ $# -gt 0 ]; do
    case $1 in
    --cgroup-manager) [ "$2" != systemd ] || words+=(--systemd-cgroup); shift ;;
    --cgroup-manager=*) [ "${1#*=}" != systemd ] || words+=(--systemd-cgroup) ;;
    --config) [ "$2" = config.json ] || cp "$2" config.json; shift ;;
    *) words+=("$1") ;;
    esac
    shift
done
source=$(cd "$(dirname "$0")/../../src" && pwd)
exec python3 -IS -c 'import sys
sys.path.insert(0, sys.argv.pop(1))
from corten.runtime.cli import main
main()' "$source" "${words[@]}"
