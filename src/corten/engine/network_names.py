"""The daemon's side of the resolver: which container has which names on which network, told as it changes.

The resolver is another process (corten/network/resolver.py). It is started with the first user-defined network; when
it is killed another is started and told everything. A start waits for it only until its sockets are there.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import corten
from corten.engine import links, network_etc
from corten.engine.network_views import dns_names
from corten.linux.process import pidfd_open
from corten.network.resolver import COMMAND

if TYPE_CHECKING:
    from corten.engine.networks import Networks
    from corten.engine.records import ContainerRecord

PATIENCE_S = 5.0  # of a start whose resolver is being started, or is slow
log = logging.getLogger("corten.names")


class Entering:
    """A container under way; the caller keeps the descriptors open until `done`."""

    __slots__ = ("descriptors", "done", "message")

    def __init__(self, message: dict[str, Any], descriptors: list[int]) -> None:
        self.message, self.descriptors = message, descriptors
        self.done: asyncio.Future[str] = asyncio.get_running_loop().create_future()


class Resolver:
    """The connection; `networks` tells what is to be known."""

    _loop: asyncio.AbstractEventLoop

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self._sock: socket.socket | None = None
        self._starting: asyncio.Task[None] | None = None
        self._waiting: dict[str, Entering] = {}  # by container id
        self._closed = False

    # --- what the networks say

    def wanted(self) -> None:
        """There is a user-defined network: the resolver will be needed soon."""
        if self._sock is None and not self._closed and (self._starting is None or self._starting.done()):
            self._starting = asyncio.get_running_loop().create_task(self._start())

    def enter(self, record: ContainerRecord, netns: int, pidfd: int) -> asyncio.Future[str] | None:
        """Be in a container's namespace; the future ends when it is, None when the container needs none."""
        if not served(self._networks, record):
            return None
        entering = self._waiting[record.id] = Entering(self._message(record), [netns, pidfd])
        self._send(entering.message, entering.descriptors)
        return entering.done

    async def entered(self, record: ContainerRecord, future: asyncio.Future[str] | None) -> None:
        """Wait for it; a resolver that does not answer holds up no start for good, and says so in the log."""
        if future is None:
            return
        if not future.done():
            self._readable()  # mostly it is there by now
        try:
            wrong = future.result() if future.done() else await asyncio.wait_for(future, PATIENCE_S)
        except TimeoutError:
            wrong = "the resolver does not answer"
        finally:
            self._waiting.pop(record.id, None)
        if wrong:
            log.warning("container %s has no names: %s", record.id[:12], wrong)

    def changed(self, record: ContainerRecord) -> None:
        """A running container has other names, addresses or networks."""
        if not served(self._networks, record):
            self.left(record.id)
            return
        descriptors = _descriptors(record)
        try:
            self._send(self._message(record), descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def left(self, container_id: str) -> None:
        """A container has ended."""
        if self._sock is not None:
            self._send({"op": "drop", "id": container_id}, [])

    def rest(self) -> None:
        """No user-defined network is left: the process ends, and is started with the next."""
        if self._sock is not None:
            self._send({"op": "end"}, [])
            self._disconnect()

    async def end(self) -> None:
        """No container runs any more and the daemon ends: so does the resolver."""
        if self._starting:
            await self._starting
        if self._sock is None:
            return
        self._closed = True
        self._send({"op": "end"}, [])
        for _ in range(500):
            if not os.path.exists(self._networks.layout.resolver_socket):
                break
            await asyncio.sleep(0.01)
        self.close()

    def close(self) -> None:
        """Let go; the resolver stays."""
        self._closed = True
        self._disconnect()

    # --- the connection

    def _message(self, record: ContainerRecord) -> dict[str, Any]:
        networks = self._networks
        endpoints = []
        for name, endpoint in record.networking.items():
            network = networks.named().get(name)
            if network is None or not network.names or not endpoint.endpoint_id:
                continue
            endpoints.append({
                "id": network.record.id, "name": name, "names": dns_names(endpoint, record),
                "links": links.endpoint_links(networks, endpoint), "addresses": network_etc.addresses(endpoint),
            })
        servers, ndots = network_etc.asked_outside(networks, record)
        return {
            "op": "put", "id": record.id, "endpoints": endpoints, "servers": servers,
            "outside": networks.reaches_outside(record), "ndots": ndots,
        }

    def _send(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if self._sock is None:
            self.wanted()  # it will be told everything once it is there
            return
        try:
            socket.send_fds(self._sock, [json.dumps(message).encode()], descriptors)
        except OSError:
            self._disconnect()
            self.wanted()

    async def _start(self) -> None:
        """Connect, starting the process when there is none, and tell it everything."""
        for attempt in range(200):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                sock.connect(self._networks.layout.resolver_socket)
            except OSError:
                sock.close()
                if attempt % 50 == 0:
                    await asyncio.to_thread(_spawn, self._networks.layout.exec_root, self._networks.layout.data_root)
                else:
                    await asyncio.sleep(0.01)
                continue
            if self._closed:
                sock.close()
                return
            sock.settimeout(1)  # of a send: it reads all the time
            self._sock = sock
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(sock, self._readable)
            if not any(network.names for network in self._networks.all()):
                self.rest()  # the last network went while it started
                return
            self._tell_all()
            if self._sock is not None:
                return
            await asyncio.sleep(0.01)  # it was one that is ending: its socket outlived its connections for a moment
        log.warning("no resolver answers at %s", self._networks.layout.resolver_socket)

    def _tell_all(self) -> None:
        """Every container that runs, those under way too: their waiters hear of them."""
        records = [record for record in self._networks.containers if served(self._networks, record)]
        running = [record for record in records if record.running]
        self._send({"op": "only", "ids": [record.id for record in records]}, [])
        for record in running:
            self.changed(record)
        for entering in self._waiting.values():
            self._send(entering.message, entering.descriptors)

    def _readable(self) -> None:
        if self._sock is None:
            return
        try:
            data = self._sock.recv(1 << 16, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._disconnect()
            self.wanted()
            return
        said = json.loads(data)
        entering = self._waiting.get(said["id"])
        if entering is not None and not entering.done.done():
            entering.done.set_result(said["error"])

    def _disconnect(self) -> None:
        sock, self._sock = self._sock, None
        if sock is not None:
            self._loop.remove_reader(sock)
            sock.close()


def served(networks: Networks, record: ContainerRecord) -> bool:
    """Whether a container has the resolver: one with an address on a network that has names."""
    if record.host_config.network_mode.startswith("container:"):
        return False
    return any(
        endpoint.endpoint_id and (network := networks.named().get(name)) is not None and network.names
        for name, endpoint in record.networking.items()
    )


def _descriptors(record: ContainerRecord) -> list[int]:
    """A running container's namespace and process; none when it has just ended."""
    found: list[int] = []
    try:
        found.append(os.open(f"/proc/{record.state.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        found.append(pidfd_open(record.state.pid))
    except OSError:
        for descriptor in found:
            os.close(descriptor)
        return []
    return found


def _spawn(exec_root: str, data_root: str) -> None:
    """Run a bare interpreter that becomes the resolver; it is not our child when this returns."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(corten.__file__)))
    with open(f"{exec_root}/resolver.log", "ab") as out:
        subprocess.run(
            [sys.executable, "-IS", "-c", COMMAND, root, data_root, exec_root],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, cwd="/", check=False,
        )
