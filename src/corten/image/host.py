"""The image named `host`: a small root skeleton, and over it this machine's own /usr, mounted read-only.

It needs no download, is always there, and cannot leave: there is nothing in it to push or save. The skeleton holds
what programs of /usr look for outside it; nothing secret is copied (no shadow, no keys, no machine id).
"""

import hashlib
import json
import os
import shutil
import stat
import sys
from typing import Any

from corten.base.errors import Forbidden
from corten.base.files import atomic_write, read_bytes
from corten.image.gc import host_folders_unused
from corten.image.records import Image, ImageRecord
from corten.image.store import ImageStore
from corten.oci.digest import digest_of
from corten.oci.image_spec import machine_architecture

NAME = "docker.io/library/host:latest"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_VERSION = 1  # raise it when the skeleton below changes
_CREATED = "2024-01-01T00:00:00Z"
_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")  # links into /usr on a merged system
_FOLDERS = (
    ("boot", 0o755), ("dev", 0o755), ("etc", 0o755), ("home", 0o755), ("media", 0o755), ("mnt", 0o755),
    ("opt", 0o755), ("proc", 0o755), ("root", 0o700), ("run", 0o755), ("run/lock", 0o1777), ("srv", 0o755),
    ("sys", 0o755), ("tmp", 0o1777), ("usr", 0o755), ("var", 0o755), ("var/cache", 0o755), ("var/lib", 0o755),
    ("var/log", 0o755), ("var/spool", 0o755), ("var/tmp", 0o1777), ("usr/local", 0o755),
)
_ACCOUNTS = """root:x:0:0:root:/root:{shell}
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
bin:x:2:2:bin:/bin:/usr/sbin/nologin
sys:x:3:3:sys:/dev:/usr/sbin/nologin
mail:x:8:8:mail:/var/mail:/usr/sbin/nologin
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
"""
_GROUP = """root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
adm:x:4:
tty:x:5:
disk:x:6:
mail:x:8:
utmp:x:43:
www-data:x:33:
staff:x:50:
users:x:100:
nogroup:x:65534:
"""
_NSSWITCH = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nservices: files\n"
_PROFILE = f"export PATH={PATH}\nPS1='\\u@\\h:\\w\\$ '\n"
_COPIED = (  # trees and files of /etc that programs in /usr need to work; absent ones are passed over
    "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "ssl/certs", "ssl/openssl.cnf", "ca-certificates",
    "pki/tls/certs", "pki/ca-trust/extracted", "services", "protocols", "localtime", "terminfo", "inputrc",
    "debian_version", "os-release", "issue", "mime.types", "gai.conf", "magic", "python3", "python3.11", "python3.12",
    "python3.13", "perl", "bash.bashrc", "vim", "less",
)
_COPY_LIMIT = 4 << 20  # bytes of one file


class HostImageStays(Forbidden):
    """Somebody wants the host image to leave the machine, or to go."""


def refuse(image: Image, verb: str) -> None:
    """Raise HostImageStays when `image` is this machine's own; `verb`: "pushed", "saved", "removed"."""
    if image.is_host:
        raise HostImageStays(f"image host is this machine's own /usr and cannot be {verb}")


def mounts(image: Image) -> list[dict[str, Any]]:
    """OCI mounts a container of this image needs besides the usual ones; none for other images.

    Plain binds: what is mounted below /usr on the host stays out, for it could not be made read-only on the way.
    """
    if not image.is_host:
        return []
    sources = ["usr", *(name for name in _MERGED if os.path.isdir(f"/{name}") and not os.path.islink(f"/{name}"))]
    return [
        {"destination": f"/{name}", "type": "bind", "source": f"/{name}", "options": ["bind", "ro", "nodev"]}
        for name in sources
    ]


def add_host_image(store: ImageStore) -> Image:
    """Build the skeleton when it is missing or the machine has changed, and put the image into the store's tables.

    Nothing of it is in the database: it is made anew at every start. Raises OSError.
    """
    folder = f"host-{_fingerprint()}"
    root = store.snapshots.path(folder)
    if not os.path.isdir(root):
        staging = store.snapshots.stage()
        _build(f"{staging}/fs")
        atomic_write(f"{staging}/size", b"%d" % _size(f"{staging}/fs"))
        os.rename(staging, os.path.dirname(root))
    for old in host_folders_unused(store, folder):
        store.snapshots.remove_layer(old)
    config = _config()
    record = ImageRecord(digest_of(json.dumps(config, sort_keys=True).encode()), [], [])
    image = Image(record, config, [folder], int(read_bytes(f"{os.path.dirname(root)}/size")), is_host=True)
    store.images[image.id] = image
    image.names = ["host:latest"]
    store.names[NAME] = image.id
    return image


def _config() -> dict[str, Any]:
    return {
        "architecture": machine_architecture(os.uname().machine), "os": "linux", "created": _CREATED,
        "config": {"Env": [f"PATH={PATH}"], "Cmd": [_shell()], "WorkingDir": "/"},
        "history": [{"created": _CREATED, "created_by": "corten: this machine's /usr, read-only"}],
        "rootfs": {"type": "layers", "diff_ids": []},
    }


def _shell() -> str:
    return "/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh"


def _fingerprint() -> str:
    """Changes when something that was copied does."""
    seen = hashlib.sha256(f"{_VERSION} {sys.byteorder}".encode())
    for name in _COPIED:
        try:
            found = os.stat(f"/etc/{name}")
            seen.update(f"{name} {found.st_mtime_ns} {found.st_size}\n".encode())
        except OSError:
            continue
    for name in _MERGED:
        seen.update(f"{name} {os.path.islink('/' + name)}".encode())
    return seen.hexdigest()[:8]


def _build(root: str) -> None:
    os.mkdir(root)
    os.chmod(root, 0o755)  # noqa: S103
    for name, mode in _FOLDERS:
        os.mkdir(f"{root}/{name}")
        os.chmod(f"{root}/{name}", mode)
    for name in _MERGED:
        if os.path.islink(f"/{name}"):
            os.symlink(os.readlink(f"/{name}"), f"{root}/{name}")
        elif os.path.isdir(f"/{name}"):
            os.mkdir(f"{root}/{name}", 0o755)
    os.symlink("/run", f"{root}/var/run")
    os.symlink("/run/lock", f"{root}/var/lock")
    for name, text in (
        ("passwd", _ACCOUNTS.format(shell=_shell())), ("group", _GROUP), ("hostname", "host\n"), ("hosts", ""),
        ("resolv.conf", ""), ("nsswitch.conf", _NSSWITCH), ("profile", _PROFILE), ("shells", "/bin/sh\n/bin/bash\n"),
        ("host.conf", "multi on\n"),
    ):
        with open(f"{root}/etc/{name}", "w") as stream:
            stream.write(text)
        os.chmod(f"{root}/etc/{name}", 0o644)
    for name in _COPIED:
        _copy(f"/etc/{name}", f"{root}/etc/{name}")


def _copy(source: str, target: str) -> None:
    """A file, link or tree of the host's /etc; only what everybody may read, links as links."""
    try:
        found = os.lstat(source)
    except OSError:
        return
    os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
    if stat.S_ISLNK(found.st_mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISDIR(found.st_mode) and found.st_mode & 0o005 == 0o005:
        os.mkdir(target, 0o755)
        for name in os.listdir(source):
            _copy(f"{source}/{name}", f"{target}/{name}")
        os.chmod(target, 0o755)  # noqa: S103
    elif stat.S_ISREG(found.st_mode) and found.st_mode & 0o004 and found.st_size <= _COPY_LIMIT:
        shutil.copyfile(source, target)
        os.chmod(target, stat.S_IMODE(found.st_mode) & 0o755)


def _size(root: str) -> int:
    """Bytes of the skeleton's own files: /usr is not its."""
    total = 0
    for folder, _, files in os.walk(root):
        total += sum(os.lstat(f"{folder}/{name}").st_size for name in files)
    return total
