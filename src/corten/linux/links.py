"""Links other than bridges and veth pairs, and a route out of the ordinary; what a `Batch` of netlink.py carries.

A kernel without the kind answers EOPNOTSUPP. Sources: rtnetlink(7), linux/if_link.h.
"""

import socket
import struct
from ipaddress import IPv6Address

from corten.linux.netlink import (
    IFLA_ADDRESS,
    IFLA_IFNAME,
    IFLA_INFO_DATA,
    IFLA_INFO_KIND,
    IFLA_LINK,
    IFLA_LINKINFO,
    IFLA_MTU,
    IFLA_NET_NS_FD,
    LINK,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    ROUTE,
    RTA_DST,
    RTA_OIF,
    RTA_PRIORITY,
    RTM_NEWLINK,
    RTM_NEWROUTE,
    RTN_LOCAL,
    RTPROT_BOOT,
    Batch,
    attribute,
    hardware_address,
    nested,
    number,
    text,
)

_MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
_IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}
_IPVLAN_FLAGS = {"bridge": 0, "private": 1, "vepa": 2}
_IFLA_VLAN_ID, _IFLA_MODE, _IFLA_IPVLAN_FLAGS = 1, 1, 2
_TABLE_LOCAL, _LAST = 255, 4096  # a metric behind those of the kernel's own


def _new(batch: Batch, kind: str, name: str, settings: bytes, more: bytes = b"") -> None:
    body = LINK.pack(0, 0, 0, 0, 0) + text(IFLA_IFNAME, name) + more
    data = (nested(IFLA_INFO_DATA, settings),) if settings else ()
    body += nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, kind), *data)
    batch.add(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"create {kind} {name}")


def dummy(batch: Batch, name: str) -> None:
    """A link that leads nowhere, down."""
    _new(batch, "dummy", name, b"")


def vlan(batch: Batch, name: str, parent: int, number_of_vlan: int) -> None:
    """The 802.1Q network `number_of_vlan` of link `parent` (an index), down."""
    tag = attribute(_IFLA_VLAN_ID, struct.pack("=H", number_of_vlan))
    _new(batch, "vlan", name, tag, number(IFLA_LINK, parent))


def macvlan(batch: Batch, name: str, parent: int, mode: str, netns_fd: int, mac: str, mtu: int) -> None:
    """A second MAC on link `parent`, born in another namespace; `mode` bridge, private, vepa or passthru."""
    more = number(IFLA_LINK, parent) + number(IFLA_NET_NS_FD, netns_fd) + number(IFLA_MTU, mtu)
    _new(batch, "macvlan", name, number(_IFLA_MODE, _MACVLAN_MODES[mode]),
         more + attribute(IFLA_ADDRESS, hardware_address(mac)))


def ipvlan(batch: Batch, name: str, parent: int, mode: str, flag: str, netns_fd: int, mtu: int) -> None:
    """A link with the MAC of `parent`, born in another namespace; `flag` bridge, private, vepa."""
    settings = attribute(_IFLA_MODE, struct.pack("=H", _IPVLAN_MODES[mode]))
    settings += attribute(_IFLA_IPVLAN_FLAGS, struct.pack("=H", _IPVLAN_FLAGS[flag]))
    more = number(IFLA_LINK, parent) + number(IFLA_NET_NS_FD, netns_fd) + number(IFLA_MTU, mtu)
    _new(batch, "ipvlan", name, settings, more)


def local_route(batch: Batch, index: int, address: IPv6Address) -> None:
    """Packets for `address` that come in by link `index` are for this host, from now on.

    The kernel's own such route for an address follows a little later, from a work queue; what arrives before, an answer
    to the first neighbour solicitation, would be lost. For ::1 there is none but on the loopback device: with this one,
    answers from another link arrive after their translation (net/ipv6/route.c, rt6_need_strict); packets that bear ::1
    on the wire are refused all the same.
    """
    body = ROUTE.pack(socket.AF_INET6, 128, 0, 0, _TABLE_LOCAL, RTPROT_BOOT, 0, RTN_LOCAL, 0)
    body += attribute(RTA_DST, address.packed) + number(RTA_OIF, index) + number(RTA_PRIORITY, _LAST)
    batch.add(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body, f"add local route {address}")
