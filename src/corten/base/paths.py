"""Where things live: every path below the data root and the run root is spelled here and nowhere else.

The data root (default /var/lib/corten) survives a reboot; the run root (default /run/corten) does not have to.
Several daemons with different roots live side by side.
"""

import os
import posixpath

DATA_ROOT = "/var/lib/corten"
EXEC_ROOT = "/run/corten"
SOCKET = "/run/corten/corten.sock"


class Layout:
    """The paths of one daemon, from its two roots (absolute)."""

    __slots__ = ("data_root", "exec_root")

    def __init__(self, data_root: str = DATA_ROOT, exec_root: str = EXEC_ROOT) -> None:
        self.data_root = os.path.abspath(data_root)
        self.exec_root = os.path.abspath(exec_root)

    # --- data root

    @property
    def database(self) -> str:
        """sqlite: containers, networks, leases, volumes, image names, build cache."""
        return f"{self.data_root}/corten.db"

    @property
    def content(self) -> str:
        """OCI image layout: `blobs/sha256/…` and `ingest/`."""
        return f"{self.data_root}/content"

    @property
    def snapshots(self) -> str:
        """`<short id>/{fs,work}`; short, since overlay's option page is 4 KiB."""
        return f"{self.data_root}/snapshots"

    @property
    def volumes(self) -> str:
        """`<name>/_data`, as docker lays it out."""
        return f"{self.data_root}/volumes"

    @property
    def build_caches(self) -> str:
        """Folders of RUN --mount=type=cache."""
        return f"{self.data_root}/build-caches"

    @property
    def build(self) -> str:
        """Clients' folders kept from build to build, and scratch space of builds under way."""
        return f"{self.data_root}/build"

    @property
    def build_history(self) -> str:
        """What was told of builds that have ended, a file each."""
        return f"{self.data_root}/build-history"

    @property
    def tmp(self) -> str:
        """Scratch space; emptied at each start of the daemon."""
        return f"{self.data_root}/tmp"

    def container(self, container_id: str) -> str:
        """A container's own folder: log, log.idx, hosts, hostname, resolv.conf."""
        return f"{self.data_root}/containers/{container_id}"

    # --- run root

    @property
    def runtime(self) -> str:
        """OCI runtime root: `<id>/config.json` (the bundle) and `<id>/state.json`. `corten-oci --root` reads it."""
        return f"{self.exec_root}/runtime"

    def bundle(self, container_id: str) -> str:
        """The bundle of a container that runs."""
        return f"{self.exec_root}/runtime/{container_id}"

    @property
    def rootfs(self) -> str:
        """An empty folder: the place where each container's root is mounted, in the container's own mount namespace."""
        return f"{self.exec_root}/rootfs"

    @property
    def exits(self) -> str:
        """`<id>.json`, written by whoever reaps, before it tells anyone."""
        return f"{self.exec_root}/exits"

    @property
    def cgroup_parent(self) -> str:
        """Where this daemon's groups are in every cgroup hierarchy: `/corten`, or named after another run root."""
        own = "" if self.exec_root == EXEC_ROOT else self.exec_root.replace("/", "-")[-200:]
        return f"/corten{own}"

    def cgroup(self, container_id: str, parent: str = "") -> str:
        """The cgroup path of a container; `parent` is its HostConfig.CgroupParent."""
        if parent:
            return f"/{posixpath.normpath('/' + parent).lstrip('/')}/{container_id}".replace("//", "/")
        return f"{self.cgroup_parent}/{container_id}"

    @property
    def zygote_socket(self) -> str:
        """Where the zygote listens; SOCK_SEQPACKET."""
        return f"{self.exec_root}/zygote.sock"

    @property
    def resolver_socket(self) -> str:
        """Where the resolver of names listens; SOCK_SEQPACKET."""
        return f"{self.exec_root}/resolver.sock"

    @property
    def pump_lock(self) -> str:
        """Held by the one log pump that may write."""
        return f"{self.exec_root}/pump.lock"

    def make(self) -> None:
        """Create the folders, mode 0700 whatever the umask."""
        for path in (
            self.data_root, self.exec_root, self.content, self.snapshots, self.volumes, self.build, self.build_caches,
            self.tmp,
            f"{self.data_root}/containers", self.runtime, self.rootfs, self.exits,
        ):
            os.makedirs(path, mode=0o700, exist_ok=True)
