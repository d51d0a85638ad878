"""The nf_tables tables of one daemon: published ports, masquerade, who may not reach or pass for whom.

What is in them is said in ruleset.py. Each change is one transaction over both tables (`inet` and `bridge`, of one
name). Other tables and the FORWARD policy of the host are left alone: what they drop stays dropped. The chain `user`
is the administrator's: it is never emptied, and while it has rules the table stays.
"""

import errno

from corten.base.errors import Internal
from corten.linux import nft_expressions as nft
from corten.linux.conntrack import forget_udp
from corten.linux.netlink import NetlinkError
from corten.linux.nftables import Nftables, Transaction
from corten.network.ruleset import (
    BRIDGE_CHAINS,
    BRIDGE_SETS,
    CHAINS,
    RANGES,
    RULES,
    SETS,
    USER_CHAIN,
    Element,
    Guard,
    Published,
    Rules,
)

FAMILIES = (nft.NFPROTO_INET, nft.NFPROTO_BRIDGE)
_STRANGE = (errno.ENOENT, errno.EEXIST, errno.EBUSY)  # someone else has been at the table


class Firewall:
    """The tables named `table`. Remembers what should be in them; puts it back when someone flushed it."""

    def __init__(self, table: str) -> None:
        self.table = table
        self._bridges: dict[str, Rules] = {}
        self._ports: dict[str, list[Published]] = {}
        self._guards: dict[str, list[Guard]] = {}
        self._barred: dict[str, Element] = {}  # links of ended containers that may be there still: nothing passes
        self._gone: list[Element] = []  # links that are gone, yet to be taken out: with the next change
        self._socket: Nftables | None = None
        self._installed = False

    def close(self) -> None:
        """Let go of the socket; the kernel keeps the tables."""
        if self._socket:
            self._socket.close()
            self._socket = None

    @property
    def socket(self) -> Nftables:
        """The socket, opened on first use."""
        if self._socket is None:
            self._socket = Nftables()
        return self._socket

    # --- the whole

    def know(
        self, bridges: list[Rules], ports: dict[str, list[Published]], guards: dict[str, list[Guard]]
    ) -> None:
        """Replace what should be there (ports and guards by container id), without touching the kernel."""
        self._bridges = {rules.bridge: rules for rules in bridges}
        self._ports = dict(ports)
        self._guards = dict(guards)
        self._barred.clear()
        self._gone.clear()

    def _elements(self) -> list[Element]:
        found = [element for rules in self._bridges.values() for element in rules.elements()]
        found += [one for ports in self._ports.values() for port in ports for one in port.elements()]
        for guard in (guard for guards in self._guards.values() for guard in guards):
            found += [*guard.elements(), guard.bar()]
        return [*found, *self._barred.values(), *self._gone]

    def install(self) -> None:
        """Make the tables as they should be, in one transaction: traffic that flows goes on. Raises Internal."""
        try:
            self.socket.commit(self._whole_change(fresh=False))
        except NetlinkError:  # a set or chain of another kind is in the way: the table of another version
            self._commit(self._whole_change(fresh=True))
        self._installed = True

    def _whole_change(self, *, fresh: bool) -> Transaction:
        change = Transaction(self.table)
        for family in FAMILIES:
            change.family = family
            change.table()
            if fresh:
                change.delete_table()
                change.table()
            _make(change)
        self._fill(change, self._elements(), [home for rules in self._bridges.values() for home in rules.homes()])
        return change

    def _fill(self, change: Transaction, elements: list[Element], ranges: list[Element]) -> None:
        for name, entries in _grouped(elements).items():
            change.family = _family(name)
            change.elements(name, entries)
        change.family = nft.NFPROTO_INET
        for name, first, last in ranges:
            change.range(name, first, last)

    def adopt(self) -> None:
        """Go on with the tables an earlier process left when they are whole, set them right if not. Raises Internal."""
        self._installed = self.whole()
        if not self._installed:
            self.install()

    def whole(self) -> bool:
        """Whether the kernel holds the tables with all their rules and elements, unchanged."""
        try:
            for family in FAMILIES:
                held = [(r.chain, r.userdata) for r in self.socket.rules(self.table, family) if r.chain != USER_CHAIN]
                if sorted(held) != sorted((chain, mark) for chain, _, mark in RULES[family]):
                    return False
            wanted = _grouped(self._elements())
            for rules in self._bridges.values():
                for name, first, _last in rules.homes():
                    wanted.setdefault(name, []).append((first, b""))
            return all(
                self.socket.elements(self.table, name, _family(name)) == dict(wanted.get(name, ()))
                for name in (*SETS, *RANGES, *BRIDGE_SETS)
            )
        except NetlinkError:
            return False

    def repair(self) -> bool:
        """Whether something was missing or changed; it is put back. Raises Internal."""
        if not self._installed or self.whole():
            return False
        self.install()
        return True

    def remove(self) -> None:
        """Take the tables away, all but the administrator's rules; absent is fine. Raises Internal."""
        self._installed = False
        self.know([], {}, {})
        change = Transaction(self.table)
        for family in FAMILIES:
            if self.table not in self.socket.tables(family):
                continue
            change.family = family
            if family == nft.NFPROTO_INET and self._user_rules():
                _make(change)
            else:
                change.delete_table()
        self._commit(change)

    def _user_rules(self) -> bool:
        try:
            return bool(self.socket.rules(self.table, chain=USER_CHAIN))
        except NetlinkError:
            return False

    # --- single changes

    def add_bridge(self, rules: Rules) -> None:
        """A network more."""
        known = self._bridges.get(rules.bridge)
        self._bridges[rules.bridge] = rules
        if known is None:
            self._change(rules.elements(), [], rules)
        else:
            self.install()

    def remove_bridge(self, bridge: str) -> None:
        """A network less; absent is fine."""
        rules = self._bridges.pop(bridge, None)
        if rules:
            self._change([], rules.elements(), rules)

    def attach(self, container_id: str, ports: list[Published], guards: list[Guard]) -> None:
        """What a container has from now on, in place of what it had: published ports, and links that are guarded.

        A link that is no longer among them stays barred until `unbar`.
        """
        before = self._ports.pop(container_id, [])
        ends = {guard.end for guard in guards}
        old = list(dict.fromkeys(element for port in before for element in port.elements()))
        new = list(dict.fromkeys(element for port in ports for element in port.elements()))
        for guard in self._guards.pop(container_id, ()):
            old += guard.elements()
            if guard.end not in ends:
                self._barred[guard.end] = guard.bar()
        for guard in guards:
            new += guard.elements()
            if self._barred.pop(guard.end, None) is None:
                new.append(guard.bar())
        if ports:
            self._ports[container_id] = ports
        if guards:
            self._guards[container_id] = guards
        kept = set(old) & set(new)
        self._change([one for one in new if one not in kept], [one for one in old if one not in kept])
        _forget_flows([port for port in (*before, *ports) if port.element() not in kept])

    def withdraw(self, container_id: str) -> None:
        """Close the ports of a container and bar its links; absent is fine."""
        self.attach(container_id, [], [])

    def unbar(self, ends: list[str]) -> None:
        """These links are gone for good. Costs nothing: the next change takes them out of the set."""
        self._gone += [element for end in ends if (element := self._barred.pop(end, None))]

    def _change(self, added: list[Element], removed: list[Element], bridge: Rules | None = None) -> None:
        """One transaction; when someone else has been at the tables, they are made as they should be."""
        if not added and not removed:
            return
        if not self._installed:
            if added:
                self.install()
            return
        change = Transaction(self.table)
        removed, self._gone = removed + self._gone, []
        for name, entries in _grouped(removed).items():  # first: a port may move to another address
            change.family = _family(name)
            change.delete_elements(name, [key for key, _ in entries])
        homes = bridge.homes() if bridge else []
        self._fill(change, added, homes if added else [])
        for name, first, last in homes if not added else ():
            change.delete_range(name, first, last)
        try:
            self.socket.commit(change)
        except NetlinkError as error:
            if error.errno not in _STRANGE:
                raise Internal(f"nf_tables: {error.strerror}") from None
            self.install()

    def _commit(self, change: Transaction) -> None:
        try:
            self.socket.commit(change)
        except OSError as error:
            raise Internal(f"nf_tables: {error.strerror}") from None


def _make(change: Transaction) -> None:
    """Chains, sets and rules of one family, whatever was in them; the chain `user` keeps its rules."""
    inet = change.family == nft.NFPROTO_INET
    if inet:
        change.chain(USER_CHAIN)
    for name, kind, hook, priority in CHAINS if inet else BRIDGE_CHAINS:
        change.chain(name, kind, hook, priority)
        change.empty_chain(name)
    for name, (key, value) in (SETS if inet else BRIDGE_SETS).items():
        change.set(name, key, value)
        change.empty_set(name)
    for name, key in RANGES.items() if inet else ():
        change.ranges(name, key)
        change.empty_set(name)
    for chain, expressions, mark in RULES[change.family]:
        change.rule(chain, expressions, mark)


def _family(name: str) -> int:
    return nft.NFPROTO_BRIDGE if name in BRIDGE_SETS else nft.NFPROTO_INET


def _forget_flows(ports: list[Published]) -> None:
    """UDP flows that were decided before a change of its ports; a kernel that cannot filter them lets them age."""
    found = [port for port in ports if port.protocol == "udp"]
    for address in {port.container for port in found}:
        try:
            forget_udp([port.host_port for port in found if port.container == address], address)
        except OSError:
            pass


def _grouped(entries: list[Element]) -> dict[str, list[tuple[bytes, bytes]]]:
    found: dict[str, list[tuple[bytes, bytes]]] = {}
    for name, key, value in entries:
        found.setdefault(name, []).append((key, value))
    return found
