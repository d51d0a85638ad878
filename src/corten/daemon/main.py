"""The daemon's life: one per data root, sockets, signals, the end. The only place that knows all parts.

    python -m corten.daemon.main [flags]        (what `corten daemon` runs)

SIGTERM and SIGINT end it and leave containers running; kill -9 does no harm either. When no container runs at its end,
nothing of it stays on the machine but the data root.
"""

import asyncio
import fcntl
import logging
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from corten.base.errors import Error, InvalidArgument
from corten.base.paths import Layout
from corten.daemon import config as flags
from corten.engine.settings import DaemonConfig
from corten.linux import rlimit
from corten.zygote.starting import start_zygote

SWITCH_INTERVAL_S = 0.0005  # how long a thread that deletes files may keep the loop waiting; 5 ms by default
_LEVELS = {"debug": "DEBUG", "info": "INFO", "warn": "WARNING", "error": "ERROR", "fatal": "CRITICAL"}


class PidFile:
    """One daemon a PID file: locked for as long as it lives, removed at its end."""

    def __init__(self, path: str) -> None:
        """Raises InvalidArgument when another daemon holds it."""
        self.path = path
        os.makedirs(os.path.dirname(path), mode=0o711, exist_ok=True)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = os.read(self._descriptor, 16).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise InvalidArgument(f"a daemon runs already (pid {other}, {path})") from None
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, b"%d" % os.getpid())

    def remove(self) -> None:
        """At the end."""
        os.unlink(self.path)
        os.close(self._descriptor)


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 after a signal, 1 when it could not start."""
    try:
        config = flags.parse(sys.argv[1:] if arguments is None else arguments)
        logging.basicConfig(
            level=_LEVELS[config.log_level], format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
        for name in ("hpack", "grpclib"):  # their debug output is a line a header, their INFO one a stream
            logging.getLogger(name).setLevel(logging.WARNING)
        rlimit.raise_files()
        if os.geteuid() != 0:
            raise InvalidArgument("the daemon needs to be run as root")
        os.umask(0o022)
        pid_file = PidFile(config.pidfile)
    except Error as error:
        print(f"corten daemon: {error}", file=sys.stderr)
        return 1
    try:
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        starting = _begin_zygote(config)
        from corten.api.routes import build_router  # meanwhile: most of the time to the first answer goes into this
        from corten.daemon.serve import serve

        router = build_router()
        starting.join()
        _runner()(serve(config, router))
    except (Error, OSError) as error:
        print(f"corten daemon: {error}", file=sys.stderr)
        return 1
    finally:
        pid_file.remove()
    return 0


def _begin_zygote(config: DaemonConfig) -> threading.Thread:
    """Have the zygote come up beside; one that is there is found there, and what fails here is tried again later."""
    layout = Layout(config.data_root, config.exec_root)
    layout.make()
    thread = threading.Thread(target=start_zygote, args=(layout,), daemon=True)
    thread.start()
    return thread


def _runner() -> Callable[[Coroutine[Any, Any, None]], None]:
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return uvloop.run


if __name__ == "__main__":
    sys.exit(main())
