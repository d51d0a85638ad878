"""The daemon's life: one per data root, sockets, signals, the end. The only place that knows all parts.

    python -m corten.daemon.main [flags]        (what `corten daemon` runs)

SIGTERM and SIGINT end it and leave containers running; kill -9 does no harm either. When no container runs at its end,
nothing of it stays on the machine but the data root.
"""

import asyncio
import fcntl
import gc
import grp
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from corten.api.router import Router
from corten.api.routes import build_router
from corten.api.server import Server, ServerSettings
from corten.api.tls import server_context
from corten.base.errors import Error, InvalidArgument
from corten.daemon import config as flags
from corten.engine.engine import Engine
from corten.engine.settings import DaemonConfig
from corten.gateway.gateway import Gateway
from corten.linux.heap import keep_freed

HEAP_BYTES = 8 << 20  # of freed buffers kept: layers and archives pass through in pieces of up to a megabyte
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


async def serve(config: DaemonConfig, router: Router) -> None:
    """Open the engine, listen, and wait for the signal to end."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    keep_freed(HEAP_BYTES)
    engine = Engine(config)
    engine.gateway = Gateway(engine)
    await engine.open()
    gc.freeze()  # what is there for good need not be looked at again and again
    gc.set_threshold(20_000, 20, 50)  # a collection in the middle of a start costs more than it frees
    server = Server(router, engine, ServerSettings(group_id=_group(config.group)))
    try:
        _listen(server, config, engine.log)
        await over.wait()
        engine.log.info("ending; containers that run stay")
    finally:
        await server.close()
        await engine.close()


def _listen(server: Server, config: DaemonConfig, log: logging.Logger) -> None:
    for address in config.hosts:
        if address.startswith("tcp://"):
            context = server_context(config.tls_ca, config.tls_certificate, config.tls_key)
            host, port = server.listen_tls(*flags.tcp_address(address), context)
            log.info("API listens on %s port %d, with TLS", host, port)
        else:
            server.listen_unix(flags.socket_path(address))
            log.info("API listens on %s", address)
    for address in config.read_only_hosts:
        server.listen_unix(flags.socket_path(address), read_only=True)
        log.info("API listens on %s, for looking only", address)


def _group(name: str) -> int | None:
    if not name:
        return None
    try:
        return int(name) if name.isascii() and name.isdigit() else grp.getgrnam(name).gr_gid
    except KeyError:
        raise InvalidArgument(f"group {name} not found") from None


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 after a signal, 1 when it could not start."""
    try:
        config = flags.parse(sys.argv[1:] if arguments is None else arguments)
        logging.basicConfig(
            level=_LEVELS[config.log_level], format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
        for name in ("hpack", "grpclib"):  # their debug output is a line a header, their INFO one a stream
            logging.getLogger(name).setLevel(logging.WARNING)
        if os.geteuid() != 0:
            raise InvalidArgument("the daemon needs to be run as root")
        os.umask(0o022)
        pid_file = PidFile(config.pidfile)
    except Error as error:
        print(f"corten daemon: {error}", file=sys.stderr)
        return 1
    try:
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        _runner()(serve(config, build_router()))
    except (Error, OSError) as error:
        print(f"corten daemon: {error}", file=sys.stderr)
        return 1
    finally:
        pid_file.remove()
    return 0


def _runner() -> Callable[[Coroutine[Any, Any, None]], None]:
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return uvloop.run


if __name__ == "__main__":
    sys.exit(main())
