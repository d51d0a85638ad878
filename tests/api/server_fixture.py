"""A real server on a real unix socket in a thread, for tests that bring their own routes."""

import asyncio
import contextlib
import os
import shutil
import socket
import tempfile
import threading

from corten.api.router import Router
from corten.api.server import Server, ServerSettings


class ServerThread:
    def __init__(self, routes, engine=None, **settings):
        self.folder = tempfile.mkdtemp(prefix="corten-api-")
        self.path = os.path.join(self.folder, "s.sock")
        self.routes, self.engine, self.settings = routes, engine, settings
        self.loop = None
        self.server = None

    def __enter__(self):
        ready = threading.Event()
        self.failure = None

        async def main():
            try:
                self.loop = asyncio.get_running_loop()
                self.stop = asyncio.Event()
                engine = self.engine() if callable(self.engine) else self.engine
                self.server = Server(Router(self.routes), engine, ServerSettings(**self.settings))
                self.server.listen_unix(self.path)
            except BaseException as error:
                self.failure = error
                raise
            finally:
                ready.set()
            await self.stop.wait()
            await self.server.close(drain_s=1)

        self.thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
        self.thread.start()
        ready.wait(60)
        if self.failure:
            raise self.failure
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.stop.set)
        self.thread.join(60)
        shutil.rmtree(self.folder, ignore_errors=True)

    def connect(self, timeout=60):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(timeout)
        client.connect(self.path)
        return client

    def ask(self, data):
        """Everything the server says to `data` and nothing more, until it closes."""
        with self.connect() as client:
            client.sendall(data)
            return read_all(client)


def read_all(client):
    """End this direction; what comes until the other one ends."""
    out = b""
    with contextlib.suppress(ConnectionError):
        client.shutdown(socket.SHUT_WR)
        while piece := client.recv(65536):
            out += piece
    return out


def read_until(client, mark, timeout=60):
    out = b""
    client.settimeout(timeout)
    while mark not in out:
        piece = client.recv(65536)
        if not piece:
            break
        out += piece
    return out
