"""`corten network create`, `ls`, `rm`, `connect`, `disconnect`."""

from corten.cli import clock, filters
from corten.cli.args import Values
from corten.cli.client import quote
from corten.cli.containers import config_format
from corten.cli.create_request import pairs
from corten.cli.errors import ApiError, Failure, NotConnected
from corten.cli.main import Cli
from corten.cli.table import Listing, Row, joined_labels, label_of
from corten.cli.volumes import natural

Json = dict[str, object]

HEADERS = {
    "ID": "NETWORK ID", "Name": "NAME", "Driver": "DRIVER", "Scope": "SCOPE", "IPv4": "IPV4", "IPv6": "IPV6",
    "Internal": "INTERNAL", "Labels": "LABELS", "CreatedAt": "CREATED AT",
}


def row_of(network: Json, trunc: bool) -> Row:
    """One network of the API's list as a row of texts."""
    labels = network.get("Labels") or {}
    assert isinstance(labels, dict)
    network_id = str(network.get("Id", ""))
    created = str(network.get("Created", ""))
    return {
        "CreatedAt": _created(created),
        "Driver": str(network.get("Driver", "")),
        "ID": network_id[:12] if trunc else network_id,
        "IPv4": "true" if network.get("EnableIPv4", True) else "false",
        "IPv6": "true" if network.get("EnableIPv6") else "false",
        "Internal": "true" if network.get("Internal") else "false",
        "Label": label_of(labels),
        "Labels": joined_labels(labels),
        "Name": str(network.get("Name", "")),
        "Scope": str(network.get("Scope", "")),
    }


def _created(text: str) -> str:
    seconds = clock.seconds_of(text)
    if not seconds:
        return "0001-01-01 00:00:00 +0000 UTC"
    fraction = text[19:].rstrip("Z").split("+")[0].rstrip("0") if text[19:20] == "." else ""
    whole = clock.go_time(int(seconds))
    return whole[:19] + fraction + whole[19:]


def ls(cli: Cli, values: Values) -> None:
    """`corten network ls`. GET /networks."""
    form = values.text("format") or config_format(cli, "networksFormat", values)
    found = cli.client.call("GET", "/networks", filters.query(values.many("filter")))
    networks = sorted(found if isinstance(found, list) else [], key=lambda one: natural(str(one.get("Name", ""))))
    rows = [row_of(one, not values.flag("no-trunc")) for one in networks]
    Listing("*network.networkContext", HEADERS, ("ID", "Name", "Driver", "Scope")).show(
        rows, form, values.flag("quiet"))


def _pools(values: Values) -> list[Json]:
    """IPAM.Config: ranges and gateways join the subnet they lie in."""
    import ipaddress

    subnets = values.many("subnet")
    parsed = {}
    for text in subnets:
        try:
            parsed[text] = ipaddress.ip_network(text, strict=False)
        except ValueError:
            if len(subnets) > 1 or any(values.many(name) for name in ("gateway", "ip-range")):
                raise Failure(f"invalid subnet {text}: invalid CIDR address: {text}") from None
    networks = list(parsed.values())
    for at, network in enumerate(networks):
        if any(other.version == network.version and other.overlaps(network) for other in networks[:at]):
            raise Failure("multiple overlapping subnet configuration is not supported")
    found: dict[str, Json] = {text: {"Subnet": text} for text in subnets}

    def place(what: str, address: str) -> Json:
        for text, network in parsed.items():
            try:
                inside = ipaddress.ip_address(address.split("/")[0]) in network
            except ValueError:
                raise Failure(f"invalid {what} {address}: no matching subnet") from None
            if inside:
                return found[text]
        raise Failure(f"no matching subnet for {what} {address}")

    for text in values.many("ip-range"):
        place("range", text)["IPRange"] = text
    for text in values.many("gateway"):
        place("gateway", text)["Gateway"] = text
    for name, address in pairs(values.many("aux-address")).items():
        place("aux-address", address).setdefault("AuxiliaryAddresses", {})[name] = address  # type: ignore[index]
    return list(found.values())


def create(cli: Cli, values: Values) -> None:
    """`corten network create NAME`. POST /networks/create."""
    if (values.many("ip-range") or values.many("gateway")) and not values.many("subnet"):
        raise Failure("every ip-range or gateway must have a corresponding subnet")
    body: Json = {
        "Name": values.rest[0],
        "Driver": values.text("driver"),
        "Scope": values.text("scope"),
        **({"EnableIPv4": values.flag("ipv4")} if values.has("ipv4") else {}),
        **({"EnableIPv6": values.flag("ipv6")} if values.has("ipv6") else {}),
        "IPAM": {
            "Driver": values.text("ipam-driver") or "default", "Options": pairs(values.many("ipam-opt")),
            "Config": _pools(values),
        },
        "Internal": values.flag("internal"), "Attachable": values.flag("attachable"),
        "Ingress": values.flag("ingress"), "ConfigOnly": values.flag("config-only"), "ConfigFrom": None,
        "Options": pairs(values.many("opt")), "Labels": pairs(values.many("label")),
    }
    if values.text("config-from"):
        body["ConfigFrom"] = {"Network": values.text("config-from")}
    found = cli.client.call("POST", "/networks/create", None, body)
    assert isinstance(found, dict)
    if found.get("Warning"):
        cli.error(f"WARNING: {found['Warning']}")
    cli.out(str(found["Id"]))


def rm(cli: Cli, values: Values) -> None:
    """`corten network rm NAME…`. DELETE /networks/{id}."""
    failed = False
    for name in values.rest:
        try:
            cli.client.call("DELETE", f"/networks/{quote(name)}")
        except NotConnected:
            raise
        except ApiError as error:
            if values.flag("force") and error.status == 404:
                continue
            cli.error(error.text)
            failed = True
            continue
        cli.out(name)
    if failed:
        raise Failure("exit status 1")


def connect(cli: Cli, values: Values) -> None:
    """`corten network connect NETWORK CONTAINER`. POST /networks/{id}/connect."""
    network, container = values.rest
    addresses: Json = {}
    for flag, key in (("ip", "IPv4Address"), ("ip6", "IPv6Address")):
        if values.text(flag):
            addresses[key] = values.text(flag)
    if values.many("link-local-ip"):
        addresses["LinkLocalIPs"] = values.many("link-local-ip")
    endpoint: Json = {
        "IPAMConfig": addresses, "Links": values.many("link") or None, "Aliases": values.many("alias"),
        "MacAddress": "", "DriverOpts": pairs(values.many("driver-opt")),
        "GwPriority": values.number("gw-priority"), "NetworkID": "", "EndpointID": "", "Gateway": "", "IPAddress": "",
        "IPPrefixLen": 0, "IPv6Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "DNSNames": None,
    }
    body: Json = {"Container": container, "EndpointConfig": endpoint}
    cli.client.call("POST", f"/networks/{quote(network)}/connect", None, body)


def disconnect(cli: Cli, values: Values) -> None:
    """`corten network disconnect NETWORK CONTAINER`. POST /networks/{id}/disconnect."""
    network, container = values.rest
    body: Json = {"Container": container, "Force": values.flag("force")}
    cli.client.call("POST", f"/networks/{quote(network)}/disconnect", None, body)
