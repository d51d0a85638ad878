"""Images side by side, in one run: load, save, push and pull over the API, with docker-registry on loopback.

    python bench/images.py --engine docker=unix:///var/run/docker.sock --engine corten=unix:///run/corten/corten.sock

Two images: many small files in ten layers, and one random layer. The engines take turns; printed are medians and the
ratio to the first engine. All engines and the registry must share a network namespace (run it by nsenter if need be).
"""

import argparse
import http.client
import io
import json
import os
import socket
import statistics
import sys
import tarfile
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, f"{ROOT}/tests")
from registry_server import digest_of, layer, running_registry  # noqa: E402

NAME = "corten-bench-images"


class Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=600)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Engine:
    """One engine under test."""

    def __init__(self, text):
        self.name, _, url = text.partition("=")
        self.path = url.removeprefix("unix://")

    def call(self, method, path, body=None):
        """Status and the size of the answer; progress streams that end in an error raise."""
        connection = Connection(self.path)
        headers = {"Content-Type": "application/x-tar", "X-Registry-Auth": "e30="}
        connection.request(method, "/v1.44" + path, body, headers)
        answer = connection.getresponse()
        size, last = 0, b""
        while part := answer.read(1 << 20):
            size, last = size + len(part), part
        connection.close()
        if (answer.status >= 400 and method != "DELETE") or b'"errorDetail"' in last[-4096:]:
            raise RuntimeError(f"{self.name} {method} {path}: {answer.status} {last[-300:]!r}")
        return size

    def timed(self, method, path, body=None):
        begun = time.perf_counter()
        self.call(method, path, body)
        return time.perf_counter() - begun

    def forget(self, *names):
        for name in names:
            self.call("DELETE", f"/images/{name}?force=1")


def archive(path, layers):
    """A docker-archive of the layers."""
    config = json.dumps({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["x"]},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in layers]},
    }).encode()
    members = {f"{at}/layer.tar": tar for at, tar in enumerate(layers)}
    manifest = [{"Config": "config.json", "RepoTags": [f"{NAME}:1"], "Layers": list(members)}]
    members |= {"config.json": config, "manifest.json": json.dumps(manifest).encode()}
    with tarfile.open(path, "w") as out:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))


def round_of(engine, path, registry, times):
    """One engine's turn: load, save, push (to a fresh repository) and pull."""
    target = f"{registry.host}/{engine.name}/r{len(times['push'])}"
    with open(path, "rb") as source:
        times["load"].append(engine.timed("POST", "/images/load?quiet=1", source))
    times["save"].append(engine.timed("GET", f"/images/{NAME}:1/get"))
    engine.call("POST", f"/images/{NAME}:1/tag?repo={target}&tag=1")
    times["push"].append(engine.timed("POST", f"/images/{target}/push?tag=1"))
    times["again"].append(engine.timed("POST", f"/images/{target}/push?tag=1"))
    engine.forget(f"{NAME}:1", f"{target}:1")
    times["pull"].append(engine.timed("POST", f"/images/create?fromImage={target}&tag=1"))
    engine.forget(f"{target}:1")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", action="append", type=Engine, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=20_000, help="0: without this image")
    parser.add_argument("--megabytes", type=int, default=500, help="0: without this image")
    chosen = parser.parse_args()
    kinds = {
        f"{chosen.files} files, 10 layers": lambda: [
            layer({f"d{at}/f{n}": os.urandom(16) * 64 for n in range(chosen.files // 10)}) for at in range(10)
        ],
        f"{chosen.megabytes} MB layer": lambda: [layer({"big": os.urandom(chosen.megabytes * 1_000_000)})],
    }
    with tempfile.TemporaryDirectory(prefix="corten-bench-", dir="/var/tmp") as folder:
        for title, make in kinds.items():
            if title.startswith("0 "):
                continue
            archive(f"{folder}/image.tar", make())
            times = {e.name: {verb: [] for verb in ("load", "save", "push", "again", "pull")} for e in chosen.engine}
            for at in range(chosen.rounds):
                for engine in chosen.engine if at % 2 == 0 else reversed(chosen.engine):
                    with running_registry() as registry:  # a fresh one: nothing to mount from
                        round_of(engine, f"{folder}/image.tar", registry, times[engine.name])
            for verb in times[chosen.engine[0].name]:
                found = [statistics.median(times[engine.name][verb]) for engine in chosen.engine]
                cells = "  ".join(
                    f"{engine.name} {value:7.3f} s ({value / found[0]:5.2f}x)"
                    for engine, value in zip(chosen.engine, found, strict=True)
                )
                print(f"{title:24} {verb:6} {cells}", flush=True)


if __name__ == "__main__":
    main()
