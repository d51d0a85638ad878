#!/bin/sh
# corten-oci of this checkout, as one program.
source=$(cd "$(dirname "$0")/../../src" && pwd)
exec python3 -IS -c 'import sys
sys.path.insert(0, sys.argv.pop(1))
from corten.runtime.cli import main
main()' "$source" "$@"
