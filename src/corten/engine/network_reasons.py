"""Why a port answers or not: what was found on the way of a container's packets, judged. Pure."""

from collections.abc import Sequence
from typing import Any

from corten.linux.listeners import Listener
from corten.network.ruleset import ANY, ANY6, Published


class Port:
    """A container port, and how it is published (not at all: an empty list)."""

    __slots__ = ("number", "protocol", "published")

    def __init__(self, protocol: str, number: int) -> None:
        self.protocol = protocol
        self.number = number
        self.published: list[Published] = []


class Evidence:
    """What the kernel says of the container and the way to it.

    `present`: addresses inside; `elements`: the maps of published ports; `internal`: names of its internal networks;
    `outward`: whether a bridge network carries its ports; `unheld`: host ports that a process of the host has too;
    `foreign`: base chains of other tables; `user_rules`: how many rules the administrator's chain has.
    """

    __slots__ = ("elements", "foreign", "internal", "listeners", "outward", "present", "settings", "unheld",
                 "user_rules")

    def __init__(
        self, *, listeners: Sequence[Listener], present: set[str], elements: dict[str, dict[bytes, bytes]],
        internal: Sequence[str], outward: bool, unheld: Sequence[tuple[str, str, int]],
        foreign: list[dict[str, Any]], settings: dict[str, str], user_rules: int,
    ) -> None:
        self.listeners = listeners
        self.present = present
        self.elements = elements
        self.internal = internal
        self.outward = outward
        self.unheld = unheld
        self.foreign = foreign
        self.settings = settings
        self.user_rules = user_rules


def ports_json(evidence: Evidence, ports: Sequence[Port]) -> list[dict[str, Any]]:
    """Each port with the reasons against it (`Reasons`) and what is worth knowing (`Notes`)."""
    found: list[dict[str, Any]] = []
    for port in ports:
        if not port.published:
            reasons = [*_listening(evidence, port, None), _unpublished(evidence)]
            found.append(_json(port, None, reasons, []))
        for one in port.published:
            reasons = [*_listening(evidence, port, one), *_broken(evidence, one)]
            found.append(_json(port, one, reasons, _notes(evidence, one)))
    return found


def _json(port: Port, one: Published | None, reasons: list[str], notes: list[str]) -> dict[str, Any]:
    return {
        "ContainerPort": f"{port.number}/{port.protocol}", "HostIp": str(one.host) if one else "",
        "HostPort": str(one.host_port or "") if one else "", "Target": str(one.container) if one else "",
        "Answers": not reasons, "Reasons": reasons, "Notes": notes,
    }


def _unpublished(evidence: Evidence) -> str:
    if not evidence.outward and evidence.internal:
        return f"network {evidence.internal[0]} is internal: nothing outside it reaches the container"
    return "not published: only this host and containers of its networks reach it (publish it with -p)"


def _listening(evidence: Evidence, port: Port, one: Published | None) -> list[str]:
    """What is wrong with the program inside."""
    if port.protocol not in ("tcp", "udp"):
        return []
    there = [address for protocol, address, number in evidence.listeners
             if protocol == port.protocol and number == port.number]
    if not there:
        return [f"nothing listens on {port.number}/{port.protocol} in the container"]
    if one is None or ANY6 in there or any(address in (ANY, one.container) for address in there):
        if one is not None and one.container.version == 6 and all(address == ANY for address in there):
            return [f"the program listens on IPv4 alone (0.0.0.0:{port.number}): IPv6 is refused"]
        return []
    where = ", ".join(sorted(str(address) for address in there))
    return [f"the program listens on {where} only: let it listen on {ANY} or {one.container}"]


def _broken(evidence: Evidence, one: Published) -> list[str]:
    """What is wrong on the way to the container."""
    reasons = []
    name, key, value = one.element()
    held = evidence.elements.get(name, {})
    if key not in held:
        reasons.append("the kernel's map of published ports does not have it: the table was flushed and not repaired")
    elif held[key] != value:
        reasons.append("the kernel's map of published ports leads elsewhere: it was changed by hand")
    if str(one.container) not in evidence.present:
        reasons.append(f"the container has lost its address {one.container}")
    forwarding = "net.ipv4.ip_forward" if one.host.version == 4 else "net.ipv6.conf.all.forwarding"
    if evidence.settings.get(forwarding) == "0":
        reasons.append(f"{forwarding} is 0: this host forwards nothing")
    if (one.protocol, str(one.host), one.host_port) in evidence.unheld:
        reasons.append(f"a process of the host has {one.host}:{one.host_port} too: requests of the host may reach it")
    return reasons


def _notes(evidence: Evidence, one: Published) -> list[str]:
    """What keeps some clients away, or might."""
    notes = []
    if one.host.is_loopback:
        notes.append(f"published on {one.host} only: other hosts do not reach it")
    elif one.host not in (ANY, ANY6):
        notes.append(f"published on {one.host} only: requests to other addresses of this host do not reach it")
    family = {"inet", "ip" if one.host.version == 4 else "ip6"}
    for chain in evidence.foreign:
        if chain["Policy"] == "drop" and chain["Hook"] == "forward" and chain["Family"] in family:
            notes.append(f"chain {chain['Chain']} of table {chain['Family']} {chain['Table']} drops what it does not "
                         "allow: forwarded packets need a rule there")
    if evidence.user_rules:
        notes.append(f"the administrator's chain `user` has {evidence.user_rules} rule(s), asked first")
    if one.host.version == 6 and evidence.settings.get("net.bridge.bridge-nf-call-ip6tables") == "1":
        notes.append("[::1] does not lead to it while net.bridge.bridge-nf-call-ip6tables is 1")
    return notes
