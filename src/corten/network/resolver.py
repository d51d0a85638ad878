"""The resolver: one small process a daemon that answers at 127.0.0.11 in every container on a user-defined network.

It outlives the daemon, so names go on resolving while that restarts; the daemon that finds it tells it anew what it
should hold, and one that misses it starts another (docs/adr/0004). The daemon says, on a SOCK_SEQPACKET socket:

    {"op":"put","id":C,"endpoints":[…],"servers":[["192.0.2.1",true]],"outside":true,"ndots":false} + netns, pidfd
    {"op":"drop","id":C}    {"op":"only","ids":[…]}    {"op":"end"}

and hears {"id":C,"error":""} after each put with descriptors. A put without them changes a container that is known.
One thread, never blocking: a container's packet, whatever it holds, costs a bounded amount of work.
"""

import gc
import json
import os
import resource
import select
import socket
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

from corten.base.paths import Layout
from corten.linux import capabilities, process
from corten.linux.seqpacket import listen_alone
from corten.network import dns_message, resolver_sockets
from corten.network.dns_forward import Forwarder
from corten.network.dns_message import Malformed, Query
from corten.network.names import Names
from corten.network.resolver_place import Place
from corten.network.resolver_streams import Streams

TTL_S = 600  # docker's
TURN = 16  # packets of one container before the others have theirs
LINGER_S = 10.0  # without daemon and containers, until it ends
MISTAKES_TOLD = 20  # in the log; who provokes them shall not fill the disk
MESSAGE_BYTES = 1 << 20  # of the daemon
NEEDED = ["CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_NET_RAW"]  # for setns, nf_tables and loopback, SO_BINDTODEVICE
QUESTION_BYTES, ANSWER_BYTES = 4096, 65535
Handler = Callable[[int], None]


class Resolver:
    """The loop and all it holds."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._names = Names()
        self._places: dict[str, Place] = {}
        self._daemons: dict[int, socket.socket] = {}
        self._inside = resolver_sockets.Inside()
        self._forwarder = Forwarder(self._inside, self.watch, self.unwatch, time.monotonic)
        self._streams = Streams(self)
        self._paused: list[Place] = []
        self._alone_since = time.monotonic()
        self._over = False
        self._mistakes = 0
        self.watch(listener.fileno(), select.EPOLLIN, self._accept)

    # --- the loop

    def watch(self, descriptor: int, events: int, handler: Handler) -> None:
        """Call `handler` with the events of a descriptor from now on."""
        self._handlers[descriptor] = handler
        self._epoll.register(descriptor, events)

    def unwatch(self, descriptor: int) -> None:
        """No more; a descriptor nobody watches is fine."""
        if self._handlers.pop(descriptor, None):
            self._epoll.unregister(descriptor)

    def run(self) -> None:
        """Until told to end, or nobody is left to serve."""
        while not self._over:
            now = time.monotonic()
            soon = [moment for moment in (self._forwarder.tick(now), self._streams.tick(now)) if moment is not None]
            if self._paused:
                soon.append(now + 0.05)
            if not self._daemons and not self._places:
                if now - self._alone_since > LINGER_S:
                    return
                soon.append(now + 1)
            timeout = max(0.0, min(soon) - now) if soon else None
            ready = [(number, events, self._handlers.get(number)) for number, events in self._epoll.poll(timeout)]
            for number, events, handler in ready:
                if handler and self._handlers.get(number) is handler:  # else the number is another's by now
                    self._guarded(handler, events)
            self._resume()

    def _guarded(self, handler: Handler, events: int) -> None:
        """A mistake of ours that one container's packet brings to light must not take the names of the others away."""
        try:
            handler(events)
        except Exception:
            self._mistakes += 1
            if self._mistakes <= MISTAKES_TOLD:
                traceback.print_exc()

    def _resume(self) -> None:
        for place in self._paused:
            place.paused = False
            if self._places.get(place.id) is place:
                self._watch_datagrams(place)
        self._paused.clear()

    def now(self) -> float:
        """The clock of all deadlines, in seconds."""
        return time.monotonic()

    # --- containers

    def _watch_datagrams(self, place: Place) -> None:
        self.watch(place.udp.fileno(), select.EPOLLIN, lambda _events: self._datagrams(place))

    def _datagrams(self, place: Place) -> None:
        for _ in range(TURN):
            if not place.allowed(time.monotonic()):
                self.unwatch(place.udp.fileno())
                place.paused = True
                self._paused.append(place)
                return
            try:
                message, asker = place.udp.recvfrom(QUESTION_BYTES)
            except OSError:
                return
            self.answer(place, message, False, partial(_send, place.udp, asker))

    def answer(self, place: Place, message: bytes, stream: bool, reply: Callable[[bytes], None]) -> None:
        """Answer one question of a container; `reply` may be called later, or never for what deserves no answer."""
        try:
            query = Query(message)
        except Malformed as wrong:
            if wrong.rcode is not None:
                reply(dns_message.refusal(message, wrong.rcode))
            return
        records = self._own(place, query)
        if records is not None:
            reply(dns_message.answer(query, records, TTL_S, ANSWER_BYTES if stream else query.room))
        elif query.kind in (dns_message.A, dns_message.AAAA) and not place.single_labels and "." not in query.name:
            reply(dns_message.answer(query, (), 0, query.room))  # docker's: the client goes on with a search domain
        else:
            self._forwarder.ask(place, query, stream, reply)

    def _own(self, place: Place, query: Query) -> list[bytes] | None:
        """The data of the records that containers have for it; None: not a name of ours."""
        if query.kind in (dns_message.A, dns_message.AAAA) and query.name:
            found = self._names.find(place.id, query.name, 4 if query.kind == dns_message.A else 16)
            if found and len(found) > 1:
                turn = int.from_bytes(os.urandom(2)) % len(found)
                found = found[turn:] + found[:turn]
            return found
        if query.kind == dns_message.MX and query.name:
            return [] if self._names.find(place.id, query.name, 4) is not None else None
        if query.kind == dns_message.PTR:
            name = self._names.reverse(place.id, query.name)
            try:
                return [dns_message.encode_name(name)] if name else None
            except ValueError:
                return None
        return None

    # --- the daemon

    def _accept(self, _events: int) -> None:
        try:
            daemon, _ = self._listener.accept()
        except OSError:
            return
        daemon.setblocking(False)
        self._daemons[daemon.fileno()] = daemon
        self.watch(daemon.fileno(), select.EPOLLIN, lambda _events: self._hear(daemon))

    def _hear(self, daemon: socket.socket) -> None:
        try:
            data, fds, _flags, _address = socket.recv_fds(daemon, MESSAGE_BYTES, 2)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        if not data:
            self.unwatch(daemon.fileno())
            del self._daemons[daemon.fileno()]
            daemon.close()
            self._alone_since = time.monotonic()
            return
        said = json.loads(data)
        if said["op"] == "put":
            self._put(daemon, said, fds)
        elif said["op"] == "drop":
            self._drop(said["id"])
        elif said["op"] == "only":
            for container in set(self._names.containers()).difference(said["ids"]):
                self._drop(container)
        elif said["op"] == "end":
            self._over = True

    def _put(self, daemon: socket.socket, said: dict[str, Any], fds: list[int]) -> None:
        container, wrong = said["id"], ""
        try:
            if fds:
                self._enter(container, *fds)
            self._names.put(container, said["endpoints"])
            if container in self._places:
                self._places[container].update(said)
        except (OSError, KeyError, ValueError, TypeError) as error:
            wrong = str(error) or type(error).__name__
        if fds:
            _send(daemon, None, json.dumps({"id": container, "error": wrong}).encode())

    def _enter(self, container: str, netns: int, pidfd: int) -> None:
        """Be in a namespace; already there is fine. Raises OSError."""
        old = self._places.get(container)
        if old and old.same_namespace(netns):
            os.close(netns)
            os.close(pidfd)
            return
        self._drop(container)
        try:
            with self._inside(netns):
                sockets = resolver_sockets.listen()
        except BaseException:
            os.close(netns)
            os.close(pidfd)
            raise
        place = self._places[container] = Place(container, netns, pidfd, sockets)
        self._watch_datagrams(place)
        self.watch(place.tcp.fileno(), select.EPOLLIN, lambda _events: self._streams.accept(place))
        self.watch(pidfd, select.EPOLLIN, lambda _events: self._drop(container))

    def _drop(self, container: str) -> None:
        self._names.drop(container)
        place = self._places.pop(container, None)
        if place is None:
            return
        for descriptor in (place.udp.fileno(), place.tcp.fileno(), place.pidfd):
            self.unwatch(descriptor)
        self._forwarder.drop(place)
        self._streams.drop(place)
        place.close()
        self._alone_since = time.monotonic()


def _send(sock: socket.socket, address: Any, message: bytes) -> None:
    """Whoever does not take it does without."""
    try:
        if address is None:
            sock.send(message)
        else:
            sock.sendto(message, address)
    except OSError:
        pass


# What the interpreter is told: where the package is, then main's arguments.
COMMAND = "import sys; sys.path.insert(0, sys.argv[1]); from corten.network.resolver import main; sys.exit(main())"


def main() -> int:
    """`COMMAND PACKAGE_ROOT DATA_ROOT EXEC_ROOT`: ends when the socket is there; its child goes on."""
    layout = Layout(sys.argv[2], sys.argv[3])
    listener = listen_alone(layout.resolver_socket, f"{layout.exec_root}/resolver.lock")
    if listener is None or os.fork():
        return 0
    listener.listen()  # anew, so that whoever connects is told the pid of this process
    os.setsid()
    os.chdir("/")
    process.set_name("corten-resolver")
    process.set_dumpable(False)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    process.set_no_new_privs()
    capabilities.apply(capabilities.Sets({"effective": NEEDED, "permitted": NEEDED}))
    gc.freeze()
    Resolver(listener).run()
    os.unlink(layout.resolver_socket)
    return 0
