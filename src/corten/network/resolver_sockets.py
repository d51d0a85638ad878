"""The sockets of the resolver inside a container's network namespace, and the rule that leads port 53 to them.

They are bound to 127.0.0.11 and another port, so that a container may be a DNS server itself on all its addresses. Two
stateless rules in the namespace exchange the port of what goes over its loopback, so no connection is tracked there.
Bound to `lo`, they hear nobody but the namespace itself.
"""

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from corten.linux.namespaces import CLONE_NEWNET, setns
from corten.linux.netlink import NetlinkError
from corten.linux.nft_expressions import (
    BASE_NETWORK,
    BASE_TRANSPORT,
    HOOK_OUTPUT,
    NFPROTO_IPV4,
    PRIORITY_FILTER,
    compare,
    immediate,
    is_protocol,
    payload,
    payload_set,
)
from corten.linux.nftables import Nftables, Transaction

ADDRESS = "127.0.0.11"
PORT, HIDDEN_PORT = 53, 1153
TABLE = "corten-names"
SIOCSIFFLAGS, IFF_UP = 0x8914, 1  # netdevice(7)
BACKLOG = 16
RECEIVE_BYTES = 32 << 10  # of questions that wait, in the kernel
_SOURCE, _DESTINATION = 12, 16  # in the IPv4 header; in the TCP or UDP header the ports are at 0 and 2
_CHECKSUM = {socket.IPPROTO_UDP: 6, socket.IPPROTO_TCP: 16}


class Inside:
    """Enters network namespaces and comes back. For a process with one thread."""

    def __init__(self) -> None:
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    @contextmanager
    def __call__(self, netns_fd: int) -> Iterator[None]:
        """The body runs in that namespace. Raises OSError. When the way back fails the process ends."""
        setns(netns_fd, CLONE_NEWNET)
        try:
            yield
        finally:
            try:
                setns(self._home, CLONE_NEWNET)
            except OSError:
                os.abort()


def listen() -> tuple[socket.socket, socket.socket]:
    """The UDP socket and the TCP listener, in the caller's namespace, its loopback up. Raises OSError."""
    _loopback_up()
    udp = _bound(socket.SOCK_DGRAM)
    try:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        tcp = _bound(socket.SOCK_STREAM)
        try:
            tcp.listen(BACKLOG)
            redirect()
        except BaseException:
            tcp.close()
            raise
    except BaseException:
        udp.close()
        raise
    return udp, tcp


def _loopback_up() -> None:
    """The address is one of the namespace's own only then."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))


def _bound(kind: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if kind == socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        made.bind((ADDRESS, HIDDEN_PORT))
    except BaseException:
        made.close()
        raise
    return made


def redirect() -> None:
    """The table of the caller's namespace; there already is fine: it is made whole. Raises NetlinkError."""
    nftables = Nftables()
    try:
        nftables.commit(_RULES)
    except NetlinkError as error:
        if error.errno != errno.EEXIST:
            raise
    finally:
        nftables.close()


def _rules() -> Transaction:
    made = Transaction(TABLE, NFPROTO_IPV4)
    made.table(new=True)
    made.chain("output", "filter", HOOK_OUTPUT, PRIORITY_FILTER)
    here = socket.inet_aton(ADDRESS)
    for protocol, checksum in _CHECKSUM.items():
        for address, port, old, new in ((_DESTINATION, 2, PORT, HIDDEN_PORT), (_SOURCE, 0, HIDDEN_PORT, PORT)):
            made.rule(
                "output", payload(BASE_NETWORK, address, 4) + compare(here)
                + is_protocol(protocol)
                + payload(BASE_TRANSPORT, port, 2) + compare(struct.pack(">H", old))
                + immediate(struct.pack(">H", new)) + payload_set(BASE_TRANSPORT, port, 2, checksum),
            )
    return made




_RULES = _rules()
