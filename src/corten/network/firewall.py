"""The one nf_tables table of a daemon: published ports, masquerade, and who may not reach whom.

Rules are made once; networks and ports are elements of sets and maps, so that a start is one small transaction. Other
tables and the FORWARD policy of the host are left alone: what they drop stays dropped. IPv4 only as yet.

    guard    prerouting raw   nothing from a container may pass for 127.0.0.0/8, or be sent there
    arrive   prerouting nat   host address and port -> container address and port
    local    output nat       the same for this host's own requests, 127.0.0.1 included
    leave    postrouting nat  masquerade: outbound, hairpin, and requests that began at 127.0.0.1
    forward  forward filter   into a bridge of ours: answers and published ports, nothing else
"""

import errno
import socket
import struct
from ipaddress import IPv4Address, IPv4Network

from corten.base.errors import Internal
from corten.linux import nftables as nft
from corten.linux.conntrack import forget_udp
from corten.linux.netlink import NetlinkError

PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": 132}
ANY = IPv4Address(0)

_LOOPBACK = bytes([127, 0, 0, 0])
_LOOPBACK_MASK = bytes([255, 0, 0, 0])
_DESTINATION, _SOURCE = 16, 12  # offsets in the IPv4 header


class Rules:
    """What the firewall has to know of a bridge."""

    __slots__ = ("bridge", "icc", "internal", "masquerade", "subnet")

    def __init__(
        self, bridge: str, subnet: IPv4Network, *, internal: bool = False, masquerade: bool = True, icc: bool = True
    ) -> None:
        self.bridge = bridge
        self.subnet = subnet
        self.internal = internal
        self.masquerade = masquerade and not internal
        self.icc = icc

    def home(self) -> tuple[bytes, bytes]:
        """The range of the set `homes`: source addresses of this network, together with its bridge."""
        name = nft.ifname(self.bridge)
        return self.subnet.network_address.packed + name, self.subnet.broadcast_address.packed + name

    def elements(self) -> list[tuple[str, bytes]]:
        """(set, key) of every element this bridge stands for."""
        name = nft.ifname(self.bridge)
        found = [("own", name), ("same", name + name)]
        if self.internal:
            found.append(("internal", name))
        if self.masquerade:
            found.append(("masquerade", name))
        if not self.icc:
            found.append(("apart", name + name))
        return found


class Published:
    """One published port: `protocol` is tcp, udp or sctp; `host` 0.0.0.0 is every address of this host."""

    __slots__ = ("container", "container_port", "host", "host_port", "protocol")

    def __init__(
        self, protocol: str, host: IPv4Address, host_port: int, container: IPv4Address, container_port: int
    ) -> None:
        self.protocol = protocol
        self.host = host
        self.host_port = host_port
        self.container = container
        self.container_port = container_port

    def element(self) -> tuple[str, bytes, bytes]:
        """(map, key, value)."""
        protocol = bytes([PROTOCOLS[self.protocol]])
        value = nft.concatenated(self.container.packed, struct.pack(">H", self.container_port))
        port = struct.pack(">H", self.host_port)
        if self.host == ANY:
            return "ports_any", nft.concatenated(protocol, port), value
        return "ports", nft.concatenated(protocol, self.host.packed, port), value


class Firewall:
    """The table named `table`. Remembers what should be in it, so that it can be put back when someone flushed it."""

    def __init__(self, table: str) -> None:
        self.table = table
        self._bridges: dict[str, Rules] = {}
        self._ports: dict[str, list[Published]] = {}
        self._socket: nft.Nftables | None = None
        self._installed = False

    def close(self) -> None:
        """Let go of the socket; the kernel keeps the table."""
        if self._socket:
            self._socket.close()
            self._socket = None

    @property
    def socket(self) -> nft.Nftables:
        """The socket, opened on first use."""
        if self._socket is None:
            self._socket = nft.Nftables()
        return self._socket

    # --- the whole table

    def know(self, bridges: list[Rules], ports: dict[str, list[Published]]) -> None:
        """Replace what should be in the table (ports by container id), without touching the kernel."""
        self._bridges = {rules.bridge: rules for rules in bridges}
        self._ports = dict(ports)

    def install(self) -> None:
        """Make the table anew from what is known, in one transaction: traffic that flows goes on. Raises Internal."""
        change = nft.Transaction(self.table)
        change.table()
        change.delete_table()  # with the line above: fine whether it was there or not
        change.table()
        _sets(change)
        _chains(change)
        elements: dict[str, list[tuple[bytes, bytes]]] = {}
        for rules in self._bridges.values():
            for name, key in rules.elements():
                elements.setdefault(name, []).append((key, b""))
        for published in self._ports.values():
            for name, key, value in (port.element() for port in published):
                elements.setdefault(name, []).append((key, value))
        for name, entries in elements.items():
            change.elements(name, entries)
        for rules in self._bridges.values():
            change.range("homes", *rules.home())
        self._commit(change)
        self._installed = True

    def adopt(self) -> None:
        """Go on with the table an earlier process left when it is whole, make it anew when not. Raises Internal."""
        self._installed = self.whole()
        if not self._installed:
            self.install()

    def whole(self) -> bool:
        """Whether the kernel holds the table with all its rules and ports."""
        try:
            if len(self.socket.rules(self.table)) != _RULES:
                return False
            held = {name: self.socket.elements(self.table, name) for name in ("ports", "ports_any", "own")}
        except NetlinkError:
            return False
        wanted = [port.element() for ports in self._ports.values() for port in ports]
        return (
            all(held[name].get(key) == value for name, key, value in wanted)
            and len(held["ports"]) + len(held["ports_any"]) == len(wanted)
            and set(held["own"]) == {nft.ifname(name) for name in self._bridges}
        )

    def remove(self) -> None:
        """Take the table away; absent is fine. Raises Internal."""
        self._installed = False
        self._bridges.clear()
        self._ports.clear()
        if self.table in self.socket.tables():
            change = nft.Transaction(self.table)
            change.delete_table()
            self._commit(change)

    # --- single changes

    def add_bridge(self, rules: Rules) -> None:
        """A network more."""
        known = self._bridges.get(rules.bridge)
        self._bridges[rules.bridge] = rules
        if known is None:
            self._change([(name, key, b"") for name, key in rules.elements()], [], rules)
        else:
            self.install()

    def remove_bridge(self, bridge: str) -> None:
        """A network less; absent is fine."""
        rules = self._bridges.pop(bridge, None)
        if rules:
            self._change([], rules.elements(), rules)

    def publish(self, container_id: str, ports: list[Published]) -> None:
        """Open the ports of a container, in place of those it had."""
        self.withdraw(container_id)
        self._ports[container_id] = ports
        self._change([port.element() for port in ports], [])
        _forget_flows(ports)

    def withdraw(self, container_id: str) -> None:
        """Close the ports of a container; absent is fine."""
        ports = self._ports.pop(container_id, None)
        if ports:
            self._change([], [port.element()[:2] for port in ports])
            _forget_flows(ports)

    def _change(
        self, added: list[tuple[str, bytes, bytes]], removed: list[tuple[str, bytes]], bridge: Rules | None = None
    ) -> None:
        """One transaction; when someone else has been at the table, it is made anew as it should be."""
        if not added and not removed:
            return
        if not self._installed:
            if added:
                self.install()
            return
        change = nft.Transaction(self.table)
        for name, entries in _grouped(added).items():
            change.elements(name, entries)
        for name, keys in _grouped([(name, key, b"") for name, key in removed]).items():
            change.delete_elements(name, [key for key, _ in keys])
        if bridge:
            (change.range if added else change.delete_range)("homes", *bridge.home())
        try:
            self.socket.commit(change)
        except NetlinkError as error:
            if error.errno not in (errno.ENOENT, errno.EEXIST, errno.EBUSY):
                raise Internal(f"nf_tables: {error.strerror}") from None
            self.install()

    def _commit(self, change: nft.Transaction) -> None:
        try:
            self.socket.commit(change)
        except OSError as error:
            raise Internal(f"nf_tables: {error.strerror}") from None


def _forget_flows(ports: list[Published]) -> None:
    """UDP flows that were decided before a change of its ports; a kernel that cannot filter them lets them age."""
    found = [port for port in ports if port.protocol == "udp"]
    if not found:
        return
    try:
        forget_udp([port.host_port for port in found], found[0].container)
    except OSError:
        pass


def _grouped(entries: list[tuple[str, bytes, bytes]]) -> dict[str, list[tuple[bytes, bytes]]]:
    found: dict[str, list[tuple[bytes, bytes]]] = {}
    for name, key, value in entries:
        found.setdefault(name, []).append((key, value))
    return found


def _sets(change: nft.Transaction) -> None:
    target = (nft.TYPE_IPV4, nft.TYPE_SERVICE)
    change.set("ports", (nft.TYPE_PROTOCOL, nft.TYPE_IPV4, nft.TYPE_SERVICE), target)
    change.set("ports_any", (nft.TYPE_PROTOCOL, nft.TYPE_SERVICE), target)
    change.set("own", (nft.TYPE_IFNAME,))
    change.set("internal", (nft.TYPE_IFNAME,))
    change.set("masquerade", (nft.TYPE_IFNAME,))
    change.ranges("homes", (nft.TYPE_IPV4, nft.TYPE_IFNAME))
    change.set("same", (nft.TYPE_IFNAME, nft.TYPE_IFNAME))
    change.set("apart", (nft.TYPE_IFNAME, nft.TYPE_IFNAME))


def _from(name: str, *, negate: bool = False) -> bytes:
    return nft.meta(nft.META_IIFNAME) + nft.lookup(name, negate=negate)


def _to(name: str, *, negate: bool = False) -> bytes:
    return nft.meta(nft.META_OIFNAME) + nft.lookup(name, negate=negate)


def _between(name: str) -> bytes:
    second = nft.REGISTER + 1
    return nft.meta(nft.META_IIFNAME) + nft.meta(nft.META_OIFNAME, second) + nft.lookup(name)


def _loopback(offset: int) -> bytes:
    load = nft.is_ipv4() + nft.payload(nft.BASE_NETWORK, offset, 4)
    return load + nft.mask(_LOOPBACK_MASK) + nft.compare(_LOOPBACK)


def _back_home() -> bytes:
    """From a container into its own network. By address: within a bridge (br_netfilter) there is no link of arrival."""
    source = nft.payload(nft.BASE_NETWORK, _SOURCE, 4)
    return nft.is_ipv4() + source + nft.meta(nft.META_OIFNAME, nft.REGISTER_WORD + 1) + nft.lookup("homes")


def _translate(*, every_address: bool) -> bytes:
    """The registers of a map's key, the look-up, and DNAT to what it gives."""
    word = nft.REGISTER_WORD
    if every_address:
        key = nft.is_ipv4() + nft.to_local_address() + nft.meta(nft.META_L4PROTO)
        key += nft.payload(nft.BASE_TRANSPORT, 2, 2, word + 1)
        return key + nft.lookup_map("ports_any") + nft.dnat_ipv4()
    key = nft.is_ipv4() + nft.meta(nft.META_L4PROTO) + nft.payload(nft.BASE_NETWORK, _DESTINATION, 4, word + 1)
    key += nft.payload(nft.BASE_TRANSPORT, 2, 2, word + 2)
    return key + nft.lookup_map("ports") + nft.dnat_ipv4()


def _chains(change: nft.Transaction) -> None:
    change.chain("guard", "filter", nft.HOOK_PREROUTING, nft.PRIORITY_RAW)
    change.chain("arrive", "nat", nft.HOOK_PREROUTING, nft.PRIORITY_DSTNAT)
    change.chain("local", "nat", nft.HOOK_OUTPUT, nft.PRIORITY_DSTNAT)
    change.chain("leave", "nat", nft.HOOK_POSTROUTING, nft.PRIORITY_SRCNAT)
    change.chain("forward", "filter", nft.HOOK_FORWARD, nft.PRIORITY_FILTER)
    for chain, expressions in _rules():
        change.rule(chain, expressions)


def _rules() -> list[tuple[str, bytes]]:
    published = nft.conntrack_has(nft.CT_STATUS, nft.CT_STATUS_DNAT)
    answers = nft.conntrack_has(nft.CT_STATE, nft.CT_ESTABLISHED | nft.CT_RELATED)
    drop = nft.counter() + nft.verdict(nft.DROP)
    accept = nft.verdict(nft.ACCEPT)
    masquerade = nft.masquerade()
    return [
        # route_localnet is on for our bridges: else a container could reach the host's 127.0.0.1 (CVE-2020-8558)
        ("guard", _from("own") + _loopback(_DESTINATION) + drop),
        ("guard", _from("own") + _loopback(_SOURCE) + drop),
        # a neighbour may send to 127.0.0.1; translated here it would slip past the kernel's own check
        ("arrive", _loopback(_DESTINATION) + nft.verdict(nft.RETURN)),
        ("arrive", _translate(every_address=False)),
        ("arrive", _translate(every_address=True)),
        ("local", _translate(every_address=False)),
        ("local", _translate(every_address=True)),
        ("leave", _to("own") + published + _loopback(_SOURCE) + masquerade),
        ("leave", _back_home() + published + masquerade),
        ("leave", _from("masquerade") + _to("own", negate=True) + masquerade),
        ("forward", answers + accept),
        ("forward", _between("apart") + drop),
        ("forward", _between("same") + accept),
        ("forward", _from("internal") + drop),
        ("forward", _to("internal") + drop),
        ("forward", _to("own") + published + accept),
        ("forward", _to("own") + drop),
    ]


_RULES = len(_rules())
