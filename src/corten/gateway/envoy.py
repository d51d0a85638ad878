"""Envoy's process: found on the machine, started apart from the daemon, watched, started again when it dies.

It outlives the daemon (a session of its own, --disable-hot-restart): a daemon that starts finds it by its command line.
While it is dead nothing passes: what it listened on is gone, and no container is reached past it.
"""

import asyncio
import importlib.util
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from functools import cache

from corten.base.errors import Internal, Unavailable
from corten.base.jsonio import dumps
from corten.gateway.admin import Admin
from corten.gateway.xds_listener import bootstrap
from corten.linux import sysctl
from corten.linux.process import pidfd_open

OLDEST = (1, 36)
KEEPS_REASONS = (1, 40)  # from this one on it can log why a request failed whose answer is a page of ours
READY_S = 45.0
STEADY_S = 5.0  # a process that lived this long is started again at once
MAX_DELAY_S = 5.0
LOG_LIMIT_BYTES = 4 << 20
_CONFINED = [sys.executable, "-IS", "-c", "import sys; sys.path.insert(0, sys.argv[1]); "
             "from corten.gateway.confine import main; main()",
             os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))]
INSTANCES = 16384
_INSTANCES = "fs/inotify/max_user_instances"
log = logging.getLogger("corten.gateway")


def missing() -> str:
    """What a user without Envoy is told."""
    return ("the gateway needs Envoy, which is not installed here. Install it with:  "
            f"{sys.executable} -m pip install 'corten[gateway]'")


def find(given: str = "") -> str:
    """Where Envoy is: the one given, the wheel's, or the system's from 1.36 on. Raises Unavailable: what to do."""
    if given:
        if not os.access(given, os.X_OK):
            raise Unavailable(f"--gateway-envoy: {given} is not a program")
        return given
    spec = importlib.util.find_spec("envoy")
    for place in (spec.submodule_search_locations or []) if spec else []:
        if os.access(f"{place}/_bin/envoy", os.X_OK):
            return f"{place}/_bin/envoy"
    path = shutil.which("envoy")
    if not path:
        raise Unavailable(missing())
    if version(path) < OLDEST:
        raise Unavailable(f"{path} is older than Envoy {OLDEST[0]}.{OLDEST[1]}. Install a newer one with:  "
                          f"{sys.executable} -m pip install 'corten[gateway]'")
    return path


def version(path: str) -> tuple[int, int]:
    """Of a program; (0, 0) when it does not say."""
    said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=60, check=False).stdout
    found = re.search(r"/(\d+)\.(\d+)\.\d+", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def keeps_reasons(given: str = "") -> bool:
    """Whether the Envoy that `find` finds is new enough for that; False when there is none."""
    try:
        return _new_enough(find(given))
    except (Unavailable, OSError, subprocess.TimeoutExpired):
        return False


@cache
def _new_enough(path: str) -> bool:
    return version(path) >= KEEPS_REASONS


class Envoy:
    """The one process of a node. `folder` holds its files; `wanted` is whether it should run."""

    def __init__(self, folder: str, given: str = "") -> None:
        self.folder, self.given = folder, given
        self.admin = Admin(f"{folder}/admin.sock")
        self.restarts = 0
        self.wanted = False
        self._pid = 0
        self._pidfd = -1
        self._child: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._delay = 0.0
        self._again: asyncio.TimerHandle | None = None
        self.ended = asyncio.Event()
        self.ended.set()

    @property
    def pid(self) -> int:
        """Of the process that runs; 0 when none does."""
        return self._pid

    @property
    def log_path(self) -> str:
        """Where it writes what troubles it."""
        return f"{self.folder}/envoy.log"

    def adopt(self) -> bool:
        """Find the process that an earlier daemon has started; whether there is one."""
        wanted = f"\0{self.folder}/envoy.json\0".encode()
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    command = file.read()
                if wanted in command and b"--disable-hot-restart" in command:
                    self._hold(int(name))
                    return True
            except OSError:
                continue
        return False

    async def start(self) -> None:
        """Run it and wait until it has read its files. Raises Unavailable, Internal."""
        self.wanted = True
        if not self._pid:
            self._spawn(find(self.given))
        await self.ready()

    async def ready(self) -> None:
        """Wait until it answers and has its listeners. Raises Internal when it ends or does not come up."""
        deadline = asyncio.get_running_loop().time() + READY_S
        while asyncio.get_running_loop().time() < deadline:
            try:
                if (await self.admin.ask("GET", "/ready")).strip() == b"LIVE":
                    return
            except (Unavailable, Internal):
                pass
            if not self._pid and self._again is None:
                break
            await asyncio.sleep(0.005)
        raise Internal(f"Envoy does not come up: {self.last_words()}")

    async def stop(self) -> None:
        """End it for good."""
        self.wanted = False
        if self._again:
            self._again.cancel()
            self._again = None
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self._pid:
                break
            signal.pidfd_send_signal(self._pidfd, number)
            try:
                await asyncio.wait_for(self.ended.wait(), 5)
            except TimeoutError:
                continue
        for name in ("admin.sock",):
            try:
                os.unlink(f"{self.folder}/{name}")
            except FileNotFoundError:
                pass

    def leave(self) -> None:
        """Let go of it; it goes on."""
        self.wanted = False
        if self._again:
            self._again.cancel()
        self._release()

    def last_words(self, since: int = 0) -> str:
        """What it has written since an offset of its log that is a complaint; the last of it."""
        try:
            with open(self.log_path, "rb") as file:
                file.seek(max(since, self.log_size() - (1 << 20)))
                text = file.read(1 << 20).decode(errors="replace")
        except OSError:
            return "no log"
        entries = re.split(r"\n(?=\[20)", text)
        told = [one for one in entries if re.match(r"\[.*\]\[(warning|error|critical)\]\[(?!backtrace|envoy_bug)", one)]
        return complaint(told[-1]) if told else "nothing in its log"

    def log_size(self) -> int:
        """How much it has written."""
        try:
            return os.stat(self.log_path).st_size
        except FileNotFoundError:
            return 0

    # --- the process

    def _spawn(self, path: str) -> None:
        _make_room()
        with open(f"{self.folder}/envoy.json", "w", encoding="utf-8") as file:
            file.write(dumps(bootstrap(self.folder)))
        try:
            os.unlink(f"{self.folder}/admin.sock")
        except FileNotFoundError:
            pass
        mode = "wb" if self.log_size() > LOG_LIMIT_BYTES else "ab"
        workers = max(1, min(4, os.cpu_count() or 1))
        with open(self.log_path, mode) as out:
            self._child = subprocess.Popen(
                [*_CONFINED, path, "-c", f"{self.folder}/envoy.json", "--disable-hot-restart", "--concurrency",
                 str(workers),
                 "--log-level", "warning", "--drain-time-s", "2", "--drain-strategy", "immediate",
                 "--file-flush-interval-msec", "100", "--reject-unknown-dynamic-fields"],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, cwd="/",
                env={"PATH": "/usr/bin:/bin"})
        self._started = asyncio.get_running_loop().time()
        self._hold(self._child.pid)

    def _hold(self, pid: int) -> None:
        self._pidfd = pidfd_open(pid)
        self._pid = pid
        self.wanted = True
        self.ended.clear()
        asyncio.get_running_loop().add_reader(self._pidfd, self._died)

    def _release(self) -> None:
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
        self._pid, self._pidfd = 0, -1

    def _died(self) -> None:
        status = self._child.wait() if self._child and self._child.pid == self._pid else None
        self._release()
        self._child = None
        self.ended.set()
        if not self.wanted:
            return
        self.restarts += 1
        lived = asyncio.get_running_loop().time() - self._started
        self._delay = 0.0 if lived > STEADY_S else min(MAX_DELAY_S, max(0.05, self._delay * 2))
        log.error("Envoy ended (%s): %s; it is started again", status, self.last_words())
        self._again = asyncio.get_running_loop().call_later(self._delay, self._start_again)

    def _start_again(self) -> None:
        self._again = None
        try:
            self._spawn(find(self.given))
        except (OSError, Unavailable) as error:
            log.error("starting Envoy again: %s", error)
            self._again = asyncio.get_running_loop().call_later(MAX_DELAY_S, self._start_again)


def _make_room() -> None:
    """Envoy watches each file by an inotify instance of its own and aborts without one; the kernel's 128 for all of a
    user's programs are soon used up. inotify(7).
    """
    try:
        if int(sysctl.read(_INSTANCES)) < INSTANCES:
            sysctl.write(_INSTANCES, str(INSTANCES))
    except (OSError, ValueError) as error:
        log.warning("%s is not raised: %s", _INSTANCES, error)


def complaint(said: str) -> str:
    """What one entry of Envoy's log says without its stamps; of a resource printed in full only what is wrong in it."""
    text = re.sub(r"^(\[[^\]]*\]\s*)+(Filesystem config update rejected: )?", "", said.strip())
    _, broken, why = text.rpartition("Proto constraint validation failed ")
    return why.strip().removeprefix("(").removesuffix(")").rpartition(" | caused by ")[2] if broken else text
