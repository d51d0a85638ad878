"""`corten network inspect --trace CONTAINER`: the way of its packets, from the host's ports to the program, as text."""

from typing import Any

from corten.cli.client import quote
from corten.cli.errors import ApiError, Failure
from corten.cli.main import Cli

Json = dict[str, Any]


def show(cli: Cli, names: list[str]) -> None:
    """One container after the other. GET /corten/containers/{id}/network-trace. Raises Failure at the end."""
    failures = []
    for name in names:
        try:
            found = cli.client.call("GET", f"/corten/containers/{quote(name)}/network-trace")
        except ApiError as error:
            failures.append(error.text)
            continue
        if isinstance(found, dict):
            cli.out("\n".join(lines(found)))
    if failures:
        raise Failure("\n".join(failures))


def lines(found: Json) -> list[str]:
    """The trace of one container."""
    text = [f"{found['Name']} ({found['Id'][:12]}, pid {found['Pid']})"]
    for network in found["Networks"]:
        text += _network(network)
    text += ["", "Routes inside"]
    text += [f"  {one['Destination']} {'via ' + one['Gateway'] + ' ' if one['Gateway'] else ''}dev {one['Link']}"
             for one in found["Routes"]]
    text += ["", "Listeners inside", *([f"  {one}" for one in found["Listeners"]] or ["  none"])]
    text += ["", "Ports"]
    for port in found["Ports"]:
        text += _port(port)
    if not found["Ports"]:
        text.append("  none exposed or published")
    text += ["", "Rules passed (packets counted since the table was made, for all containers)"]
    text += [f"  {one['Packets']:>9} {one['Family']} {one['Chain']}: {one['Rule'].rpartition(' #')[0]}"
             for one in found["Rules"] if one["Packets"]]
    others = [f"  {one['Family']} {one['Table']} {one['Chain']}: {one['Hook']} priority {one['Priority']}, policy "
              f"{one['Policy']}" for one in found["OtherChains"]]
    if others:
        text += ["", "Chains of others on the way", *others]
    return text


def _link(link: Json | None) -> str:
    if link is None:
        return "GONE"
    state = "" if link["Works"] or link["Kind"] in ("", "dummy") else (" NO CARRIER" if link["Up"] else " DOWN")
    return f"{link['Name']} (index {link['Index']}, mtu {link['Mtu']}){state}"


def _network(network: Json) -> list[str]:
    kind = network["Driver"] + (", internal" if network["Internal"] else "")
    way = [_link(network["Device"]), _link(network["Link"])]
    if network["HostLink"] is not None or network["Driver"] == "bridge":
        way.insert(1, _link(network["HostLink"]))
    text = ["", f"Network {network['Name']} ({kind})", "  " + " -- ".join(way)]
    text.append(f"  addresses {', '.join(network['Addresses']) or 'none'}")
    lost = [one for one in network["Expected"] if one not in network["Addresses"]]
    return text + ([f"  LOST {', '.join(lost)}"] if lost else [])


def _port(port: Json) -> list[str]:
    host = f"[{port['HostIp']}]" if ":" in port["HostIp"] else port["HostIp"]
    target = f"[{port['Target']}]" if ":" in port["Target"] else port["Target"]
    number = port["ContainerPort"]
    way = f"{host}:{port['HostPort']} -> {target}:{number}" if port["HostPort"] else (
        f"{target}:{number} (routed)" if target else number)
    mark = "answers" if port["Answers"] else "DOES NOT ANSWER"
    why = [f"    - {one}" for one in port["Reasons"]] + [f"    . {one}" for one in port["Notes"]]
    return [f"  {way}  {mark}", *why]
