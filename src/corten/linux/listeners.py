"""What listens in a process's network namespace. Source: proc_pid_net(5), include/net/tcp_states.h."""

import socket
from ipaddress import IPv4Address, IPv6Address

from corten.linux.netlink import Address

_LISTEN, _UNCONNECTED = "0A", "07"
_FILES = (("tcp", "tcp", 4), ("tcp6", "tcp", 6), ("udp", "udp", 4), ("udp6", "udp", 6))

Listener = tuple[str, Address, int]  # protocol, address (:: takes IPv4 as well unless the program said no), port


def listeners(pid: int) -> list[Listener]:
    """(protocol, address, port) of every TCP listener and unconnected UDP socket where `pid` is. Raises OSError."""
    found: list[Listener] = []
    for name, protocol, version in _FILES:
        try:
            with open(f"/proc/{pid}/net/{name}", encoding="ascii") as file:
                lines = file.readlines()[1:]
        except FileNotFoundError:
            continue  # no IPv6 in this kernel
        wanted = _LISTEN if protocol == "tcp" else _UNCONNECTED
        for words in (line.split() for line in lines):
            if len(words) > 3 and words[3] == wanted:
                address, _, port = words[1].partition(":")
                found.append((protocol, _address(address, version), int(port, 16)))
    return found


def _address(text: str, version: int) -> Address:
    """The kernel prints words of the machine's byte order."""
    words = (socket.htonl(int(text[at:at + 8], 16)) if _SWAP else int(text[at:at + 8], 16)
             for at in range(0, len(text), 8))
    raw = b"".join(word.to_bytes(4, "big") for word in words)
    return IPv4Address(raw) if version == 4 else IPv6Address(raw)


_SWAP = socket.htonl(1) != 1
