"""Has BuildKit in a dockerd build the cases of build_cases.py and writes down what came of it, in build_cases.json.

    record_builds.py SOCKET BUILDX      # the daemon's socket, the docker-buildx program
"""

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from build_cases import CASES, changed, config_of, history_of, tree_of, write_context
from images import busybox_archive

DATA = Path(__file__).with_name("build_cases.json")


class Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path):
        super().__init__("docker")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


def api_of(path):
    """A function that asks: (method, url, body) -> JSON or bytes."""
    def api(method, url, body=None):
        connection = Connection(path)
        kind = "application/json"
        if isinstance(body, bytes):
            kind = "application/x-tar"
        elif body is not None:
            body = json.dumps(body)
        connection.request(method, url, body, {"Content-Type": kind})
        answer = connection.getresponse()
        data = answer.read()
        assert answer.status < 400, data
        return json.loads(data) if data[:1] in (b"{", b"[") and url != "/images/load" else data
    return api


def main():
    """Record all."""
    path, buildx = sys.argv[1:]
    api = api_of(path)
    with tempfile.TemporaryDirectory() as folder:
        busybox_archive(f"{folder}/busybox.tar")
        api("POST", "/images/load", Path(folder, "busybox.tar").read_bytes())
    recorded, base = {}, tree_of(api, "busybox")
    for name, (_, _, arguments) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            write_context(name, Path(folder))
            given = [word for pair in arguments.items() for word in ("--build-arg", "=".join(pair))]
            done = subprocess.run([buildx, "build", "--progress=plain", "-t", f"case-{name}", *given, folder], capture_output=True,
                                  text=True, env={**os.environ, "DOCKER_HOST": f"unix://{path}", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"})
        if done.returncode:
            sys.exit(f"{name}: {done.stderr}")
        image = f"case-{name}"
        recorded[name] = {"tree": changed(base, tree_of(api, image)), "config": config_of(api, image), "history": history_of(api, image)}
    DATA.write_text("{\n" + ",\n".join(
        f'{json.dumps(name)}: {json.dumps(found, ensure_ascii=False)}' for name, found in recorded.items()) + "\n}\n")


if __name__ == "__main__":
    main()
