"""Containers made straight by the runtime, without an engine: a root of busybox, a spec, run it and read its output."""

import copy
import json
import os
import shutil
import subprocess
import tempfile
import time

from corten.linux import cgroup, process
from corten.runtime import create
from corten.runtime import exec as runtime_exec
from corten.runtime.bundle import load_bundle

APPLETS = ("sh", "ls", "cat", "id", "mount", "true", "ps", "env", "stat", "tty", "sleep", "grep", "kill", "hostname", "pwd",
           "ln", "mkdir", "head", "wc", "echo", "readlink", "umount", "chmod", "touch", "stty", "mknod", "sed", "rm", "nc")
CAPABILITIES = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP",
                "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL"]
SAFE = ["nosuid", "noexec", "nodev"]
SPEC = {
    "ociVersion": "1.2.0",
    "hostname": "box",
    "root": {"path": "rootfs"},
    "process": {
        "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0},
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
    },
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": SAFE},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*SAFE, "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": [*SAFE, "ro"]},
    ],
    "linux": {
        "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
        "resources": {}, "maskedPaths": ["/proc/keys", "/proc/kcore", "/sys/firmware"],
        "readonlyPaths": ["/proc/sys", "/proc/irq"],
    },
}


class Result:
    """What a container or exec came to: exit code, output (stdout and stderr), and why it failed."""

    def __init__(self, code, output, failure):
        self.code, self.output, self.failure = code, output, failure


class Boxes:
    """A folder of bundles on one busybox layer; `close` ends and removes all that was made."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="corten-test-", dir="/var/tmp")
        self.name = os.path.basename(self.folder)
        self.lower = f"{self.folder}/lower"
        self.count = 0
        self.open = []
        for name in ("bin", "etc", "tmp", "proc", "sys", "dev", "root"):
            os.makedirs(f"{self.lower}/{name}")
        shutil.copy("/bin/busybox", f"{self.lower}/bin/busybox")
        for name in APPLETS:
            os.symlink("busybox", f"{self.lower}/bin/{name}")
        with open(f"{self.lower}/etc/passwd", "w") as file:
            file.write("root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n")

    def spec(self, *arguments, **fields):
        found = copy.deepcopy(SPEC)
        found["process"].update({"args": list(arguments), **fields})
        return found

    def bundle(self, spec, init=False, plain=False):
        """Write a bundle; `plain` has a copy of the layer as its rootfs and no rootfs.json."""
        self.count += 1
        path = f"{self.folder}/b{self.count}"
        spec["linux"].setdefault("cgroupsPath", f"/{self.name}/{self.count}")
        os.makedirs(path)
        if plain:
            subprocess.run(["cp", "-a", self.lower, f"{path}/rootfs"], check=True)
        else:
            for name in ("rootfs", "upper", "work"):
                os.mkdir(f"{path}/{name}")
            with open(f"{path}/rootfs.json", "w") as file:
                json.dump({"lower": [self.lower], "upper": f"{path}/upper", "work": f"{path}/work", "init": init}, file)
        with open(f"{path}/config.json", "w") as file:
            json.dump(spec, file)
        return load_bundle(f"b{self.count}", path)

    def start(self, spec, output=2, **more):
        """A container that runs, or the failure in `.failure`."""
        bundle = self.bundle(spec, **more)
        child = create.spawn(bundle, (0, output, output))
        self.open.append((child, bundle))
        child.start()
        settle(child)
        return child, bundle

    def run(self, *arguments, spec=None, change=None, **more):
        """Run to the end."""
        spec = spec or self.spec(*arguments)
        if change:
            change(spec)
        read, write = os.pipe()
        try:
            child, bundle = self.start(spec, write, **more)
        finally:
            os.close(write)
        return self.finish(child, read, bundle)

    def finish(self, child, read, bundle=None):
        with os.fdopen(read, "rb") as stream:
            output = stream.read().decode()
        code = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
        failure = child.failure
        child.close()
        os.close(child.pidfd)
        if bundle is not None:
            self.open = [pair for pair in self.open if pair[0] is not child]
            create.destroy(bundle)
        return Result(code, output, failure)

    def exec(self, child, bundle, *arguments, **fields):
        target = runtime_exec.Target(bundle.id, child.pid, child.pidfd, bundle.spec)
        document = {**bundle.spec["process"], "args": list(arguments), **fields}
        read, write = os.pipe()
        try:
            one = runtime_exec.spawn_exec(target, document, (0, write, write))
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
        one.start()
        settle(one)
        return self.finish(one, read)

    def close(self):
        for child, bundle in self.open:
            try:
                os.kill(child.pid, 9)
                os.waitpid(child.pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass
            child.close()
            os.close(child.pidfd)
            create.destroy(bundle)
        cgroup.remove(f"/{self.name}")
        shutil.rmtree(self.folder)


    def left_behind(self):
        """What of the containers is still on the machine."""
        found = [place for place in cgroup.folders(f"/{self.name}") if os.path.exists(place)]
        with open("/proc/self/mountinfo") as file:
            found += [line for line in file if self.name in line]
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cgroup") as file:
                    ours = self.name in file.read()
                found += [pid] if ours and process.state(int(pid)) not in "ZX" else []
            except OSError:
                continue
        return found


def settle(child):
    """Until it runs or has failed."""
    while child.wait() == "created":
        pass


def read_console(child, until, seconds=60.0):
    """What the terminal says, up to a text."""
    found, deadline = "", time.monotonic() + seconds
    while until not in found and time.monotonic() < deadline:
        found += os.read(child.console, 4096).decode()
    return found
