"""Kernels to boot guests with, unpacked from Debian's packages and never installed; kept in the cache for the next run.

`uml` is User Mode Linux (fast, but no nft families, time namespaces or cpuset); a version such as `6.12` or `5.10` is
that cloud kernel, for QEMU.
"""

import fcntl
import glob
import os
import re
import shutil
import subprocess
import tempfile

CACHE = "/var/tmp/corten-guest"
SUITE_OF = {"5.10": "bullseye-security"}  # what the machine's own release does not hold
MODULES = ("virtio_pci", "virtio_blk", "ext4", "overlay", "squashfs", "veth", "bridge", "nf_tables", "nft_chain_nat",
           "nft_ct", "nft_masq", "nft_nat", "nft_fib_inet", "nft_reject_inet", "nft_numgen", "br_netfilter", "dummy",
           "macvlan", "ipvlan", "tun", "fuse", "8021q", "sctp")


class Kernel:
    """A bootable `image` and the folder of its modules (`modules`/lib/modules/`version`)."""

    def __init__(self, folder):
        self.folder, self.image, self.modules = folder, f"{folder}/image", f"{folder}/tree"
        self.version = os.listdir(f"{self.modules}/lib/modules")[0]


def get(name):
    """The kernel `name`, made when the cache has none. Raises CalledProcessError, FileNotFoundError."""
    os.makedirs(CACHE, exist_ok=True)
    with open(f"{CACHE}/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = f"{CACHE}/kernel-{name}"
        if not os.path.exists(folder):
            scratch = tempfile.mkdtemp(prefix="get-", dir=CACHE)
            try:
                (_user_mode if name == "uml" else _packaged)(name, scratch)
                os.rename(f"{scratch}/kernel", folder)
            finally:
                shutil.rmtree(scratch)
    return Kernel(folder)


def _user_mode(_name, scratch):
    tree = f"{scratch}/kernel/tree"
    version = subprocess.run(["linux.uml", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    shutil.copytree(f"/usr/lib/uml/modules/{version}", f"{tree}/lib/modules/{version}", symlinks=True)
    subprocess.run(["depmod", "-b", tree, version], check=True)
    os.symlink(shutil.which("linux.uml"), f"{scratch}/kernel/image")


def _packaged(name, scratch):
    options = _lists(SUITE_OF[name], scratch) if name in SUITE_OF else []
    known = subprocess.run(["apt-cache", *options, "pkgnames", "linux-image-"], capture_output=True, text=True, check=True)
    found = [package for package in known.stdout.split()
             if re.fullmatch(rf"linux-image-{re.escape(name)}\.\d[0-9+deb-]*-cloud-amd64", package)]
    if not found:
        raise FileNotFoundError(f"no package of a {name} cloud kernel")
    package = max(found, key=lambda one: [int(number) for number in re.findall(r"\d+", one)])
    subprocess.run(["apt-get", *options, "download", "-qq", package], cwd=scratch, check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    subprocess.run(["dpkg", "-x", *glob.glob(f"{scratch}/*.deb"), f"{scratch}/package"], check=True)
    tree = f"{scratch}/kernel/tree"
    os.makedirs(tree)
    os.rename(f"{scratch}/package/lib", f"{tree}/lib")
    (compressed,) = glob.glob(f"{scratch}/package/boot/vmlinuz-*")
    subprocess.run(["depmod", "-b", tree, compressed.split("vmlinuz-")[1]], check=True)
    with open(compressed, "rb") as file, open(f"{scratch}/kernel/image", "wb") as out:
        out.write(_uncompressed(file.read()))


def _lists(suite, scratch):
    """apt's options for a suite of the same archive that the machine's sources do not name."""
    targets = subprocess.run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"],
                             capture_output=True, text=True, check=True).stdout.split("\n")
    kind = "-security" if suite.endswith("-security") else ""
    archive = next(line.split()[0] for line in targets if line.endswith(f"bookworm{kind}"))
    for folder in ("lists/partial", "cache/archives/partial"):
        os.makedirs(f"{scratch}/{folder}")
    with open(f"{scratch}/sources.list", "w") as file:
        file.write(f"deb {archive} {suite} main\n")
    options = ["-o", f"Dir::State::lists={scratch}/lists", "-o", f"Dir::Cache={scratch}/cache", "-o",
               f"Dir::Etc::sourcelist={scratch}/sources.list", "-o", "Dir::Etc::sourceparts=-"]
    subprocess.run(["apt-get", *options, "update", "-qq"], check=True, stderr=subprocess.DEVNULL)
    return options


def _uncompressed(image):
    """The ELF kernel inside a bzImage: QEMU boots it by its PVH note and need not emulate the decompression."""
    for magic, command in ((b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\0", "xz"), (b"\x02\x21\x4c\x18", "lz4")):
        at = image.find(magic)
        while at >= 0:
            done = subprocess.run([command, "-dcq"], input=image[at:], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            if done.stdout.startswith(b"\x7fELF"):
                return done.stdout
            at = image.find(magic, at + 1)
    raise FileNotFoundError("no kernel in a known compression inside the image")
