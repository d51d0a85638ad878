"""Images made on the spot for tests: no hub, no download.

`busybox_archive(path, names=["busybox:latest"])` writes a docker-archive tar (what `docker load` reads) of an image
built from the machine's static busybox: every applet a symbolic link, /etc/passwd, /etc/group, /tmp, /root.
"""

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterable

BUSYBOX = "/bin/busybox"
EPOCH = 1_700_000_000
CREATED = "2023-11-14T22:13:20Z"


def entry(name, data=b"", mode=0o644, type=tarfile.REGTYPE, link="", uid=0, gid=0, mtime=EPOCH, pax=None, dev=None):
    """One tar member for `layer`: (TarInfo, bytes)."""
    info = tarfile.TarInfo(name)
    info.mode, info.type, info.linkname, info.uid, info.gid, info.mtime = mode, type, link, uid, gid, mtime
    if info.isreg():
        info.size = len(data)
    if dev:
        info.devmajor, info.devminor = dev
    info.pax_headers = dict(pax or {})
    return info, data


def folder(name, mode=0o755, **more):
    return entry(name, mode=mode, type=tarfile.DIRTYPE, **more)


def symlink(name, target, **more):
    return entry(name, mode=0o777, type=tarfile.SYMTYPE, link=target, **more)


def layer(entries: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """The bytes of one uncompressed layer tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data) if info.isreg() else None)
    return out.getvalue()


def busybox_layer() -> bytes:
    """The one layer of the busybox image."""
    applets = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
    with open(BUSYBOX, "rb") as stream:
        binary = stream.read()
    entries = [folder(d) for d in ("bin", "etc", "home", "proc", "sys", "dev", "usr", "usr/bin", "usr/sbin", "var", "run")]
    entries += [folder("tmp", 0o1777), folder("var/tmp", 0o1777), folder("root", 0o700), folder("sbin")]
    entries.append(entry("bin/busybox", binary, 0o755))
    entries += [symlink(f"bin/{applet}", "busybox") for applet in applets if applet != "busybox"]
    entries += [symlink("usr/bin/env", "../../bin/busybox")]
    entries.append(entry("etc/passwd", (
        b"root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
        b"www-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n")))
    entries.append(entry("etc/group", b"root:x:0:\ndaemon:x:1:\nwww-data:x:33:\nusers:x:100:\nnogroup:x:65534:\n"))
    return layer(entries)


def docker_archive(path, layers: list[bytes], names=(), config=None, compress=False) -> str:
    """Write a docker-archive tar of one image; returns the image id (`sha256:…`). `config` is its `config` object."""
    diff_ids = [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in layers]
    image = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
        "os": "linux", "created": CREATED, "config": config or {},
        "history": [{"created": CREATED, "created_by": f"/bin/sh -c #(nop) ADD layer {i}"} for i in range(len(layers))],
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    config_bytes = json.dumps(image).encode()
    image_id = hashlib.sha256(config_bytes).hexdigest()
    members = []
    for diff_id, data in zip(diff_ids, layers, strict=True):
        members.append((f"{diff_id[7:]}/layer.tar", gzip.compress(data, 1) if compress else data))
    manifest = [{"Config": f"{image_id}.json", "RepoTags": list(names), "Layers": [name for name, _ in members]}]
    members += [(f"{image_id}.json", config_bytes), ("manifest.json", json.dumps(manifest).encode())]
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return f"sha256:{image_id}"


def busybox_archive(path, names=("busybox:latest",), config=None) -> str:
    """A docker-archive of the busybox image at `path` under `names`; returns the image id."""
    default = {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["sh"]}
    return docker_archive(path, [busybox_layer()], names, config if config is not None else default)
