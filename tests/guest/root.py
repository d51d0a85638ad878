"""The guest's root: an ext4 image of a few Debian packages as this machine has them, and a tar of this working tree.

A handful of packages with all they depend on is copied file by file, so that the guest runs the same Python and tools
as the tests outside, and nothing of it reaches the machine.
"""

import fcntl
import glob
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile

from kernel import CACHE

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PACKAGES = ("base-files", "base-passwd", "bash", "busybox-static", "coreutils", "dash", "dbus", "debianutils", "e2fsprogs", "findutils", "gcc",
            "grep", "iproute2", "kmod", "libc-bin", "libc6-dev", "libseccomp2", "login", "mount", "nftables", "passwd",
            "procps", "python3", "python3-venv", "sed", "systemd", "systemd-sysv", "tar", "uidmap", "util-linux")
LEFT_OUT = ("/usr/share/doc/", "/usr/share/man/", "/usr/share/locale/", "/usr/share/info/", "/boot/", "/usr/share/zoneinfo/")
NOT_NEEDED = ("mypy", "mypyc", "ruff", "importlinter", "grimp", "pip", "setuptools")
PYVENV = "corten/.venv/pyvenv.cfg"
SIZE = 2 << 30  # bytes, sparse


def image():
    """Path of the image with the packages, made when the cache has none for their versions. Raises CalledProcessError."""
    packages = closure(PACKAGES)
    name = hashlib.sha256("\n".join((str(SIZE), *sorted(packages))).encode()).hexdigest()[:16]
    path = f"{CACHE}/root-{name}.ext4"
    os.makedirs(CACHE, exist_ok=True)
    with open(f"{CACHE}/root.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(path):
            scratch = tempfile.mkdtemp(prefix="root-", dir=CACHE)
            try:
                _make(sorted(packages), scratch)
                os.rename(f"{scratch}/image", path)
            finally:
                shutil.rmtree(scratch)
    return path


def closure(wanted):
    """`wanted` and all that they depend on among the installed packages, as `name=version`."""
    known, provided = {}, {}
    with open("/var/lib/dpkg/status") as file:
        for paragraph in file.read().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in paragraph.split("\n") if ": " in line and line[0] != " ")
            if fields.get("Status", "").endswith(" installed"):
                known[fields["Package"]] = fields
                for virtual in fields.get("Provides", "").split(", "):
                    provided.setdefault(virtual.split(" ")[0], fields["Package"])
    found, waiting = {}, list(wanted)
    while waiting:
        name = waiting.pop()
        name = name if name in known else provided.get(name, name)
        if name not in known or name in found:
            continue
        fields = known[name]
        found[name] = f"{name}={fields['Version']}"
        depends = f"{fields.get('Pre-Depends', '')}, {fields.get('Depends', '')}"
        waiting += [choice.strip().split(" ")[0].split(":")[0] for each in depends.split(",") for choice in each.split("|")]
    missing = [name for name in wanted if name not in found and name not in provided]
    if missing:
        raise FileNotFoundError(f"packages that a guest needs are not installed: {' '.join(missing)}")
    return set(found.values())


def _make(packages, scratch):
    names = [package.split("=")[0] for package in packages]
    listed = subprocess.run(["dpkg", "-L", *names], capture_output=True, text=True, check=True).stdout.split("\n")
    wanted = set()
    for path in (*listed, "/bin", "/sbin", "/lib", "/lib64", "/etc/passwd", "/etc/group", "/etc/alternatives",
                 "/etc/ld.so.cache", "/etc/shadow", "/etc/login.defs"):
        if path.startswith("/") and not path.startswith(LEFT_OUT) and os.path.lexists(path):
            parent = os.path.realpath(os.path.dirname(path))
            wanted.add(f".{parent.rstrip('/')}/{os.path.basename(path)}")
    links = {f"./etc/alternatives/{name}" for name in os.listdir("/etc/alternatives")}
    tree = f"{scratch}/tree"
    os.mkdir(tree)
    with open(f"{scratch}/list", "w") as file:
        file.write("\n".join(sorted(wanted | links)))
    subprocess.run(f"tar -C / --no-recursion -T {scratch}/list -cf - | tar -C {tree} -xpf -", shell=True, check=True)
    for folder in ("proc", "sys", "dev", "run", "tmp", "root", "srv", "var/tmp", "var/log", "home", "mnt"):
        os.makedirs(f"{tree}/{folder}", exist_ok=True)
    os.chmod(f"{tree}/tmp", 0o1777)
    os.chmod(f"{tree}/var/tmp", 0o1777)
    with open(f"{tree}/etc/machine-id", "w") as file:
        file.write("c" * 32 + "\n")
    with open(f"{tree}/etc/hosts", "w") as file:
        file.write("127.0.0.1 localhost\n::1 localhost\n")
    with open(f"{scratch}/image", "wb") as file:
        file.truncate(SIZE)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-E", "lazy_itable_init=1", "-d", tree,
                    f"{scratch}/image"], check=True)


def pack(path, extra):
    """Write the working tree and its virtual environment as a tar to `path`; `extra`: {name: text} beside them."""
    tracked = subprocess.run(["git", "-C", REPOSITORY, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                             capture_output=True, text=True, check=True).stdout.split("\0")
    with tarfile.open(path, "w") as archive:
        for name in filter(None, tracked):
            if os.path.lexists(f"{REPOSITORY}/{name}"):
                archive.add(f"{REPOSITORY}/{name}", f"corten/{name}", recursive=False)
        archive.add(f"{REPOSITORY}/.venv", "corten/.venv", filter=_needed)
        extra = {**extra, PYVENV: "home = /usr/bin\ninclude-system-site-packages = false\n"}
        for folder in glob.glob(f"{REPOSITORY}/src/**/__pycache__", recursive=True):  # compiling is slow where emulated
            archive.add(folder, f"corten/{folder.removeprefix(REPOSITORY).lstrip('/')}")
        for name, text in extra.items():
            scratch = f"{path}.extra"
            with open(scratch, "w") as file:
                file.write(text)
            os.chmod(scratch, 0o755)
            archive.add(scratch, name)
            os.unlink(scratch)


def _needed(entry):
    if entry.name == PYVENV:
        return None
    if entry.issym() and entry.linkname.startswith("/") and "/bin/python" in entry.name:
        entry.linkname = "/usr/bin/python3"  # the guest's, whichever Python made the environment here
    parts = entry.name.split("/")
    package = parts[parts.index("site-packages") + 1] if entry.name.count("site-packages/") else ""
    return None if package.split("-")[0].split(".")[0] in NOT_NEEDED else entry
