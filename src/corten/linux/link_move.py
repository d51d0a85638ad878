"""Moving a network link into another namespace with its addresses, which the kernel drops on the way.

rtnetlink(7); the runtime spec's linux.netDevices. Only permanent addresses of global scope go along, as they are.
"""

import errno
import struct

from corten.linux import netlink
from corten.linux.netlink import LINK, Batch, NetlinkError, Socket

IFF_UP = 1
_IFA_F_PERMANENT = 0x80
_KEPT = (netlink.IFA_LOCAL, netlink.IFA_ADDRESS, netlink.IFA_BROADCAST)
_ADDRESS = struct.Struct("=BBBBi")


def move_link(name: str, netns_fd: int, new_name: str) -> None:
    """Move the link `name` of the caller's network namespace into `netns_fd` as `new_name`, and bring it up there.

    Raises NetlinkError: ENODEV when there is none, EEXIST when the name is taken on the other side.
    """
    with Socket() as here, Socket(netns_fd) as there:
        link = here.link(name)
        if link is None:
            raise NetlinkError(errno.ENODEV, f"move link {name}: no such device")
        if there.link(new_name) is not None:
            raise NetlinkError(errno.EEXIST, f"move link {name}: {new_name} exists in the container")
        addresses = _addresses(here, link.index)
        batch = Batch()
        if link.up:
            batch.add(netlink.RTM_NEWLINK, 0, LINK.pack(0, 0, link.index, 0, IFF_UP), f"set {name} down")
        body = LINK.pack(0, 0, link.index, 0, 0) + netlink.number(netlink.IFLA_NET_NS_FD, netns_fd)
        batch.add(netlink.RTM_NEWLINK, 0, body + netlink.text(netlink.IFLA_IFNAME, new_name), f"move link {name}")
        here.run(batch)
        moved = there.link(new_name)
        if moved is None:
            raise NetlinkError(errno.ENODEV, f"move link {name}: gone on the way")
        _settle(there, moved.index, new_name, addresses)


def _addresses(socket: Socket, index: int) -> list[bytes]:
    """The messages that would give a link of another index the addresses that this one has."""
    found = []
    for _, body in socket.dump(netlink.RTM_GETADDR, _ADDRESS.pack(0, 0, 0, 0, 0)):
        family, prefix, flags, scope, owner = _ADDRESS.unpack_from(body)
        if owner != index or scope != netlink.RT_SCOPE_UNIVERSE or not flags & _IFA_F_PERMANENT:
            continue
        parts = netlink.attributes(body, _ADDRESS.size)
        kept = b"".join(netlink.attribute(kind, parts[kind]) for kind in _KEPT if kind in parts)
        if netlink.IFA_LOCAL not in parts and netlink.IFA_ADDRESS in parts:
            kept += netlink.attribute(netlink.IFA_LOCAL, parts[netlink.IFA_ADDRESS])
        found.append(_ADDRESS.pack(family, prefix, 0, scope, 0) + kept)
    return found


def _settle(socket: Socket, index: int, name: str, addresses: list[bytes]) -> None:
    batch = Batch()
    for message in addresses:
        family, prefix, flags, scope, _ = _ADDRESS.unpack_from(message)
        body = _ADDRESS.pack(family, prefix, flags, scope, index) + message[_ADDRESS.size:]
        batch.add(netlink.RTM_NEWADDR, netlink.NLM_F_CREATE | netlink.NLM_F_EXCL, body, f"give {name} its address")
    batch.up(index)
    socket.run(batch)
