"""What a daemon does between its start and its end: all parts put together, and the sockets they are reached by."""

import asyncio
import gc
import grp
import logging
import signal

from corten.api.router import Router
from corten.api.server import Server, ServerSettings
from corten.api.tls import server_context
from corten.base.errors import InvalidArgument
from corten.daemon import config as flags
from corten.engine.engine import Engine
from corten.engine.settings import DaemonConfig
from corten.gateway.gateway import Gateway
from corten.linux.heap import keep_freed

HEAP_BYTES = 8 << 20  # of freed buffers kept: layers and archives pass through in pieces of up to a megabyte


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
