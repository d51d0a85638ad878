"""Asks a dockerd what its BuildKit finds in the Dockerfiles of tests/unit/build_checks.json, and writes it down there.

    DOCKER_HOST=unix:///… record_checks.py BUILDX      # the docker-buildx program; the daemon needs an image busybox

`findings` are [rule, line, text], `error` [text, line]. An entry with `newer` is not asked: what it says of the current
BuildKit is not in the daemon's yet.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

DATA = Path(__file__).parents[1] / "unit" / "build_checks.json"


def line_of(location):
    """The first line of a location, 0 without one."""
    return location["ranges"][0]["start"]["line"] if location.get("ranges") else 0


def asked(buildx, entry):
    """The daemon's findings and error for one entry."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "Dockerfile").write_text(entry["text"])
        Path(folder, ".dockerignore").write_text(entry.get("ignore", ""))
        done = subprocess.run([buildx, "build", "--call", "check,format=json", folder], capture_output=True, text=True)
    found = json.loads(done.stdout)
    findings = sorted([one["ruleName"], line_of(one["location"]), one["detail"]] for one in found["warnings"] or [])
    error = found.get("buildError")
    return findings, [error["message"], line_of(error["location"])] if error else None


def main():
    """Record all that are not newer."""
    entries = json.loads(DATA.read_text())
    for entry in entries:
        if not entry.get("newer"):
            entry["findings"], entry["error"] = asked(sys.argv[1], entry)
    DATA.write_text("[\n" + ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries) + "\n]\n")


if __name__ == "__main__":
    main()
