"""Forgetting connections the kernel tracks: what it has decided for a UDP flow it keeps as long as packets come.

nf_tables translates a flow's first packet only. When a port is published, or leads elsewhere from now on, the flows
that were there before have to be forgotten. Source: linux/netfilter/nfnetlink_conntrack.h; filters since Linux 5.8.
"""

import socket
import struct

from corten.linux.netlink import NETLINK_NETFILTER, Address, Batch, Socket, attribute, nested

_DELETE = 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE
_TUPLE_ORIG, _TUPLE_REPLY, _FILTER = 1, 2, 25
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_IP_V4_SRC, _IP_V6_SRC = 1, 3
_PROTO_NUM, _PROTO_DST_PORT = 1, 3
_HAS_SOURCE, _HAS_PROTOCOL, _HAS_DESTINATION_PORT = 1 << 0, 1 << 3, 1 << 5  # CTA_FILTER_F_*


def _forget(batch: Batch, version: int, flows: bytes, original: int, reply: int, what: str) -> None:
    """Flags are in the machine's byte order."""
    filters = nested(_FILTER, attribute(1, struct.pack("=I", original)), attribute(2, struct.pack("=I", reply)))
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    batch.add(_DELETE, 0, struct.pack(">BBH", family, 0, 0) + flows + filters, what)


def forget_udp(ports: list[int], address: Address) -> None:
    """Forget UDP flows to these ports of any address (of `address`'s family), and all that `address` answers.

    Raises NetlinkError. Walks the whole table: for the containers that publish UDP ports only.
    """
    batch, version = Batch(), address.version
    for port in ports:
        protocol = attribute(_PROTO_NUM, bytes([socket.IPPROTO_UDP]))
        protocol += attribute(_PROTO_DST_PORT, struct.pack(">H", port))
        flows = nested(_TUPLE_ORIG, nested(_TUPLE_PROTO, protocol))
        _forget(batch, version, flows, _HAS_PROTOCOL | _HAS_DESTINATION_PORT, 0, f"forget UDP flows to port {port}")
    kind = _IP_V4_SRC if version == 4 else _IP_V6_SRC
    source = nested(_TUPLE_REPLY, nested(_TUPLE_IP, attribute(kind, address.packed)))
    source += nested(_TUPLE_ORIG, nested(_TUPLE_PROTO, attribute(_PROTO_NUM, bytes([socket.IPPROTO_UDP]))))
    _forget(batch, version, source, _HAS_PROTOCOL, _HAS_SOURCE, f"forget UDP flows of {address}")
    with Socket(protocol=NETLINK_NETFILTER) as netfilter:
        netfilter.run(batch)

