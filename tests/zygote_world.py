"""A zygote with containers of its own, without a daemon: the client, what it made, and who its processes are."""

import asyncio
import json
import os
import time

from corten.base.errors import Conflict
from corten.linux import cgroup
from corten.zygote.client import ZygoteClient
from corten.zygote.log_format import FRAME

GROUPS = f"/corten-test-{os.getpid()}"  # the cgroups of its containers


class World:
    """A client, the containers it made, and the events that came."""

    def __init__(self, layout, rootfs):
        self.layout, self.rootfs = layout, rootfs
        self.events = []
        self.made = []

    async def __aenter__(self):
        self.changed = asyncio.Event()
        self.client = await ZygoteClient.connect(self.layout, self.on_event)
        return self

    def on_event(self, event):
        self.events.append(event)
        self.changed.set()

    async def __aexit__(self, *_):
        for name in self.made:
            await self.client.forget(name)
        for _ in range(50):
            try:
                await self.client.shutdown()
                break
            except Conflict:
                for entry in await self.client.list():
                    await self.client.forget(entry["id"], entry["exec_id"])
        for _ in range(4500):
            if not processes(self.layout):
                break
            await asyncio.sleep(0.02)
        assert processes(self.layout) == []
        for place in cgroup.folders(GROUPS):
            if os.path.isdir(place):
                assert [entry.name for entry in os.scandir(place) if entry.is_dir()] == []
                os.rmdir(place)  # empty: each container's group is gone

    async def create(self, name, *args, tty=False, open_stdin=False, resources=None):
        bundle = self.layout.bundle(name)
        for folder in (f"{bundle}/rootfs", f"{bundle}/upper", f"{bundle}/work", self.layout.container(name)):
            os.makedirs(folder, exist_ok=True)
        spec = {
            "ociVersion": "1.2.0",
            "process": {"args": list(args), "cwd": "/", "env": ["PATH=/bin"], "terminal": tty,
                        "user": {"uid": 0, "gid": 0}, "capabilities": {}},
            "root": {"path": f"{bundle}/rootfs"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                 "options": ["newinstance", "ptmxmode=0666", "mode=0620"]},
            ],
            "linux": {
                "cgroupsPath": f"{GROUPS}/{name}",
                "resources": resources or {},
                "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")],
            },
        }
        with open(f"{bundle}/config.json", "w") as file:
            json.dump(spec, file)
        with open(f"{bundle}/rootfs.json", "w") as file:
            json.dump({"lower": [str(self.rootfs)], "upper": f"{bundle}/upper", "work": f"{bundle}/work"}, file)
        self.made.append(name)
        created = await self.client.create(
            name, tty=tty, open_stdin=open_stdin, stdin_once=False, log_dir=self.layout.container(name))
        os.close(created.netns)
        os.close(created.pidfd)
        return created

    async def run(self, name, *args, **options):
        created = await self.create(name, *args, **options)
        await self.client.start(name)
        return created

    async def event(self, kind, name, exec_id=None, timeout=60):
        async with asyncio.timeout(timeout):
            while True:
                for event in self.events:
                    if event["event"] == kind and event["id"] == name and event.get("exec_id") == exec_id:
                        return event
                self.changed.clear()
                await self.changed.wait()

    def log(self, name):
        with open(f"{self.layout.container(name)}/log", "rb") as file:
            data = file.read()
        out, at = {1: b"", 2: b""}, 0
        while at < len(data):
            stream, size = FRAME.unpack_from(data, at)
            out[stream] += data[at + 8:at + 8 + size]
            at += 8 + size
        return out


def processes(layout):
    """(pid, ppid) of anchor, zygote and pump of this layout, oldest first; not of the launcher, which comes and goes."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                command = file.read()
            with open(f"/proc/{name}/stat") as file:
                comm, _, rest = file.read().partition("(")[2].rpartition(")")
        except OSError:
            continue
        ppid = int(rest.split()[1])
        if comm != "corten-launch" and layout.exec_root.encode() + b"\0" in command and b"zygote" in command:
            found.append((int(name), ppid))
    return sorted(found)


def role(layout, wanted):
    """The pid of the anchor, the zygote or the pump: told apart by what they hold."""
    for _ in range(3000):
        if len(processes(layout)) == 3:
            break
        time.sleep(0.01)  # a launcher that has no name yet
    roles = {}
    for pid, _ppid in processes(layout):
        links = []
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                links.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
            except OSError:
                continue
        if any(link.endswith("/pump.lock") for link in links):
            roles["pump"] = pid
        elif any("eventpoll" in link for link in links):
            roles["zygote"] = pid
        else:
            roles["anchor"] = pid
    return roles[wanted]


async def settle(layout, gone):
    """Wait until a process is gone and three are there again."""
    for _ in range(9000):
        now = [pid for pid, _ in processes(layout)]
        if gone not in now and len(now) == 3:
            try:
                if all(role(layout, name) for name in ("anchor", "zygote", "pump")):
                    return
            except (KeyError, FileNotFoundError):
                pass
        await asyncio.sleep(0.01)
    raise AssertionError(f"not three again: {processes(layout)}")


def go(layout, rootfs, scenario):
    async def main():
        async with World(layout, rootfs) as world:
            await scenario(world)
    asyncio.run(main())


def process(*args, tty=False):
    return {"args": list(args), "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}, "capabilities": {},
            "terminal": tty}


async def read_all(descriptor):
    os.set_blocking(descriptor, True)
    loop = asyncio.get_running_loop()
    data = b""
    try:
        while part := await loop.run_in_executor(None, os.read, descriptor, 65536):
            data += part
    except OSError:
        pass  # a terminal's end
    os.close(descriptor)
    return data
