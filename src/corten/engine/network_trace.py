"""The way of a container's packets as the kernel has it now: links, addresses, routes, rules; and why a port is mute.

Nothing here is remembered: all is asked of the kernel. The reasons are in network_reasons.py.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from corten.base.errors import Conflict
from corten.engine.endpoint_addresses import addresses_of
from corten.engine.endpoint_ports import published
from corten.engine.network_reasons import Evidence, Port, ports_json
from corten.engine.network_records import Network, host_end
from corten.engine.records import ContainerRecord, EndpointConfig
from corten.linux import nft_expressions as nft
from corten.linux import sysctl
from corten.linux.listeners import listeners
from corten.linux.netlink import Link, NetlinkError, Socket
from corten.linux.nftables import Chain
from corten.linux.routes import routes
from corten.network.ports import exposed_ports
from corten.network.ruleset import USER_CHAIN

if TYPE_CHECKING:
    from corten.engine.networks import Networks

_HOOKS = {nft.HOOK_PREROUTING: "prerouting", nft.HOOK_INPUT: "input", nft.HOOK_FORWARD: "forward",
          nft.HOOK_OUTPUT: "output", nft.HOOK_POSTROUTING: "postrouting"}
_FAMILIES = {nft.NFPROTO_INET: "inet", nft.NFPROTO_IPV4: "ip", nft.NFPROTO_IPV6: "ip6", nft.NFPROTO_BRIDGE: "bridge"}


def trace(networks: Networks, record: ContainerRecord) -> dict[str, Any]:
    """GET /corten/containers/{id}/network-trace. Raises Conflict when it does not run or shares another's network."""
    mode = record.host_config.network_mode
    if not record.running:
        raise Conflict(f"container {record.name} is not running: it has no network, and none of its ports answers")
    if mode == "host":
        raise Conflict(f"container {record.name} uses the host's network: its ports are the host's own")
    if mode.startswith("container:"):
        raise Conflict(f"container {record.name} uses the network of {mode.removeprefix('container:')}: trace that one")
    inside = _inside(record)
    evidence = _evidence(networks, record, inside)
    return {
        "Id": record.id, "Name": record.name, "Pid": record.state.pid,
        "Networks": [
            _network_json(networks, network, record.networking[network.record.name], inside)
            for name in record.networking if (network := networks.named().get(name)) and network.addressed
        ],
        "Routes": inside["Routes"],
        "Listeners": [f"{protocol} {_socket_name(address, port)}" for protocol, address, port in evidence.listeners],
        "Ports": ports_json(evidence, _ports(networks, record)),
        "Rules": _rules(networks),
        "OtherChains": evidence.foreign,
        "Settings": evidence.settings,
    }


def _socket_name(address: object, port: int) -> str:
    return f"[{address}]:{port}" if ":" in str(address) else f"{address}:{port}"


# --- the inside


def _inside(record: ContainerRecord) -> dict[str, Any]:
    """Links and routes of the container's namespace."""
    try:
        descriptor = os.open(f"/proc/{record.state.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        raise Conflict(f"container {record.name} ended meanwhile") from None
    try:
        with Socket(descriptor) as there:
            links = {link.index: link for link in there.links()}
            addresses: dict[int, list[str]] = {}
            for index, interface in there.addresses():
                addresses.setdefault(index, []).append(str(interface))
            found = [
                {"Destination": "default" if not route.destination.prefixlen else str(route.destination),
                 "Gateway": str(route.gateway or ""), "Link": links[route.index].name if route.index in links else ""}
                for route in routes(there)
            ]
    finally:
        os.close(descriptor)
    return {"Links": links, "Addresses": addresses, "Routes": found}


def _link_json(link: Link | None) -> dict[str, Any] | None:
    if link is None:
        return None
    return {"Name": link.name, "Index": link.index, "Kind": link.kind, "Mac": link.mac, "Mtu": link.mtu, "Up": link.up,
            "Works": link.works}


def _network_json(
    networks: Networks, network: Network, endpoint: EndpointConfig, inside: dict[str, Any]
) -> dict[str, Any]:
    """One network of the container: the link inside, its end on the host, the bridge or parent."""
    links: dict[int, Link] = inside["Links"]
    own = next((link for link in links.values() if link.mac == endpoint.mac_address and link.index != 1), None)
    host = networks.bridges.socket.link(host_end(endpoint.endpoint_id)) if network.bridged else None
    return {
        "Name": network.record.name, "Driver": network.record.driver, "Internal": network.record.internal,
        "GatewayModes": {f"IPv{version}": network.options.modes[version] for version in network.pools}
        if network.bridged else {},
        "Link": _link_json(own), "Addresses": inside["Addresses"].get(own.index, []) if own else [],
        "Expected": [str(interface) for interface in addresses_of(endpoint).values()],
        "HostLink": _link_json(host),
        "Device": _link_json(networks.bridges.socket.link(network.record.bridge)),
    }


# --- ports and what speaks against them


def _ports(networks: Networks, record: ContainerRecord) -> list[Port]:
    """Every port the container exposes, publishes or listens on."""
    out = {(port.protocol, port.container_port) for port in published(networks, record)}
    asked = exposed_ports(record.config.exposed_ports, record.host_config.port_bindings)
    found = {(protocol, port): Port(protocol, port) for port, protocol in asked}
    for protocol, port in out:
        found.setdefault((protocol, port), Port(protocol, port))
    for one in published(networks, record):
        found[one.protocol, one.container_port].published.append(one)
    return list(found.values())


def _evidence(networks: Networks, record: ContainerRecord, inside: dict[str, Any]) -> Evidence:
    try:
        found = listeners(record.state.pid)
    except OSError:
        raise Conflict(f"container {record.name} ended meanwhile") from None
    bridges = [n.record.bridge for name in record.networking if (n := networks.named().get(name)) and n.bridged]
    present = {text.partition("/")[0] for texts in inside["Addresses"].values() for text in texts}
    return Evidence(
        listeners=found, present=present, elements=_elements(networks),
        internal=[name for name in record.networking if (n := networks.named().get(name)) and n.record.internal],
        outward=any(n.outward for name in record.networking if (n := networks.named().get(name)) and n.bridged),
        unheld=[(h.protocol, str(h.host), h.port) for h in networks.held.get(record.id, ())
                if h.port and h.socket is None and h.protocol != "sctp"],
        foreign=_foreign(networks), settings=_settings(bridges), user_rules=_user_rules(networks),
    )


def _elements(networks: Networks) -> dict[str, dict[bytes, bytes]]:
    """What the maps of published ports hold; empty when the table is gone."""
    found = {}
    for name in ("ports", "ports_any", "ports6", "ports6_any", "open", "open6"):
        try:
            found[name] = networks.firewall.socket.elements(networks.firewall.table, name)
        except NetlinkError:
            found[name] = {}
    return found


def _rules(networks: Networks) -> list[dict[str, Any]]:
    """Our rules that count, with what they have counted."""
    found = []
    for family in (nft.NFPROTO_INET, nft.NFPROTO_BRIDGE):
        try:
            rules = networks.firewall.socket.rules(networks.firewall.table, family)
        except NetlinkError:
            continue
        for rule in rules:
            if rule.packets is not None and rule.chain != USER_CHAIN:
                found.append({
                    "Family": _FAMILIES[family], "Chain": rule.chain, "Rule": nft.words_of(rule.userdata),
                    "Packets": rule.packets, "Bytes": rule.size,
                })
    return found


def _user_rules(networks: Networks) -> int:
    try:
        return len(networks.firewall.socket.rules(networks.firewall.table, chain=USER_CHAIN))
    except NetlinkError:
        return 0


def _foreign(networks: Networks) -> list[dict[str, Any]]:
    """Base chains of other tables that a forwarded packet passes: what they drop stays dropped."""
    def passed(chain: Chain) -> bool:
        here = chain.hook in (nft.HOOK_PREROUTING, nft.HOOK_FORWARD, nft.HOOK_POSTROUTING)
        return here and chain.table != networks.firewall.table and chain.family in _FAMILIES

    try:
        chains = networks.firewall.socket.chains()
    except NetlinkError:
        return []
    return [
        {"Family": _FAMILIES[chain.family], "Table": chain.table, "Chain": chain.name, "Hook": _HOOKS[chain.hook],
         "Priority": chain.priority, "Policy": "drop" if chain.policy == nft.DROP else "accept"}
        for chain in chains if passed(chain)
    ] + _legacy()


def _legacy() -> list[dict[str, Any]]:
    """The FORWARD chains of iptables-legacy, which nf_tables does not show; what they do is not known."""
    found = []
    for family, path in (("ip", "/proc/net/ip_tables_names"), ("ip6", "/proc/net/ip6_tables_names")):
        try:
            with open(path, encoding="ascii") as file:
                names = file.read().split()
        except OSError:
            continue
        if "filter" in names:
            found.append({"Family": family, "Table": "filter (iptables-legacy)", "Chain": "FORWARD", "Hook": "forward",
                          "Priority": 0, "Policy": "unknown"})
    return found


def _settings(bridges: list[str]) -> dict[str, str]:
    """The kernel settings that matter on the way."""
    names = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/bridge/bridge-nf-call-iptables",
             "net/bridge/bridge-nf-call-ip6tables", *(f"net/ipv4/conf/{name}/route_localnet" for name in bridges)]
    return {name.replace("/", "."): value for name in names if (value := sysctl.read(name))}
