"""The containers that are not simply trusted: from records, labels and Trust documents to members of the mesh.

Looks at what the engine knows and says what is wrong in words for the one who wrote it. Changes nothing.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network

from corten.base.errors import Conflict, InvalidArgument, NotFound
from corten.engine.networks import Networks
from corten.engine.records import ContainerRecord
from corten.engine.spec import capabilities
from corten.gateway import trust
from corten.gateway.fields import Document
from corten.gateway.instances import exposed
from corten.gateway.labels import gateway_labels
from corten.gateway.model import Revocation, Trust

# with these a program leaves its fence: raw frames, other rules, another namespace, the kernel itself
FORBIDDEN = frozenset({"CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_ADMIN", "CAP_SYS_MODULE"})


class Place:
    """A network of a member: name, subnet, the bridge's address, the member's own; `open`: who is on it may talk."""

    __slots__ = ("address", "gateway", "name", "open", "subnet")

    def __init__(self, name: str, subnet: IPv4Network, gateway: str, address: str, is_open: bool) -> None:
        self.name, self.subnet, self.address, self.open = name, subnet, IPv4Address(address), is_open
        self.gateway = IPv4Address(gateway) if gateway else None


class Member:
    """A running container at level half or zero. `service` is `project/service`; `rules` say who may call it."""

    __slots__ = ("edge", "hops", "http", "id", "level", "name", "out", "places", "published", "revoked", "rules",
                 "service", "tcp")

    def __init__(self, record: ContainerRecord, level: str, service: str) -> None:
        self.id, self.name, self.level, self.service = record.id, record.name, level, service
        self.places: list[Place] = []
        self.rules: list[trust.Rule] = []
        self.out: list[trust.Outside] = []
        self.http: list[int] = []
        self.tcp: list[int] = []
        self.published: list[int] = []
        self.edge: set[int] = set()  # ports that the gateway itself calls, since a route leads there
        self.hops: list[tuple[IPv4Address, int]] = []  # where its requests go by one hop
        self.revoked = False

    @property
    def short(self) -> str:
        """What its listeners, clusters and files are named by."""
        return self.id[:12]

    @property
    def key(self) -> tuple[object, ...]:
        """All that its own resources follow from."""
        rules = tuple((tuple(rule.callers), tuple(rule.methods), tuple(rule.paths), tuple(rule.ports), rule.owner)
                      for rule in self.rules)
        places = tuple((place.name, place.subnet, place.address) for place in self.places)
        return (self.service, self.level, places, rules, tuple(self.http), tuple(self.tcp), tuple(self.published),
                tuple(sorted(self.edge)))

    def callers(self, port: int) -> list[trust.Rule]:
        """The rules that are about a port of its own."""
        return [rule for rule in self.rules if not rule.ports or port in rule.ports]


def service_of(record: ContainerRecord) -> str:
    """`project/service`, as the one who made the container said it; an image's labels are not asked."""
    own = record.service or (record.config.labels or {}).get("corten.trust.service", "")
    return trust.qualified(own or record.name or record.id[:12], record.project, f"container {record.name}")


def check(record: ContainerRecord) -> None:
    """Labels of a container that is being made. Raises InvalidArgument."""
    labels = {name: text for name, text in (record.config.labels or {}).items()
              if name.startswith(("corten.trust", "corten.allow"))}
    for name in labels:
        if name not in trust.LABELS:
            raise InvalidArgument(f"label {name}: there is none such; there are {', '.join(trust.LABELS)}")
    if not labels:
        return
    level = trust.level(labels.get("corten.trust", "full"), "label corten.trust")
    if level == "full" and set(labels) - {"corten.trust", "corten.trust.service"}:
        return  # a document or a network may ask for more
    if level != "full":
        _enclosable(record)
        _ports(_labelled(record, Member(record, level, service_of(record))), record)


def members(
    records: Iterable[ContainerRecord], networks: Networks, documents: Iterable[Document],
) -> list[Member]:
    """All that are not fully trusted. Raises InvalidArgument, Conflict."""
    said = [document for document in documents if isinstance(document, Trust)]
    rules = [rule for document in said for rule in rules_of(document)]
    revoked = {trust.qualified(one.name, one.project, "") for one in documents if isinstance(one, Revocation)}
    found = []
    for record in records:
        of = [document for document in said if fits(document, record)]
        level = level_of(record, networks, of)
        if level == "full":
            if record.host_config.network_mode.startswith("container:"):
                _guest(record, networks, said)
            continue
        _enclosable(record)
        member = _labelled(record, Member(record, level, service_of(record)))
        member.places = _places(record, networks)
        for document in of:
            member.out += [trust.Outside(text, f"Trust/{document.name}") for text in document.out]
        own, every = member.service, f"{member.service.partition('/')[0]}/{trust.ANYONE}"
        member.rules += [rule for rule in rules if own in rule.callees or every in rule.callees]
        member.revoked = own in revoked
        found.append(_ports(member, record))
    return found


def rules_of(document: Trust) -> list[trust.Rule]:
    """The rules of a document, and whether it makes sense. Raises InvalidArgument."""
    owner = f"Trust/{document.name}"
    if document.level != "full" and not (document.project or document.network or document.services):
        raise InvalidArgument(f"{owner}: for whom is it? Say project, network or services")
    for text in document.out:
        trust.Outside(text, owner)
    return [trust.rule(text, document.project, owner) for text in document.allow]


def level_of(record: ContainerRecord, networks: Networks, documents: Iterable[Trust]) -> str:
    """The strictest that label, networks and documents ask for."""
    asked = [document.level for document in documents]
    label = (record.config.labels or {}).get("corten.trust")
    if label:
        asked.append(trust.level(label, f"container {record.name}: label corten.trust"))
    for name in record.networking:
        network = networks.named().get(name)
        of_network = network.record.labels.get("corten.trust") if network and network.record.labels else None
        if of_network:
            asked.append(trust.level(of_network, f"network {name}: label corten.trust"))
    return trust.strictest(asked)


def fits(document: Trust, record: ContainerRecord) -> bool:
    """Whether a document is about a container."""
    if not (document.project or document.network or document.services):
        return False
    return ((not document.project or document.project == record.project)
            and (not document.network or document.network in record.networking)
            and (not document.services or service_of(record).partition("/")[2] in document.services))


def _enclosable(record: ContainerRecord) -> None:
    """Raises Conflict for a container that no fence would hold."""
    host = record.host_config
    where = f"container {record.name}: trust half and zero"
    if host.network_mode == "host" or host.network_mode.startswith("container:"):
        raise Conflict(f"{where} need a network namespace of its own, not --network {host.network_mode}")
    held = FORBIDDEN & set(capabilities(host))
    if host.privileged or held:
        raise Conflict(f"{where} are not for a container with "
                       f"{'--privileged' if host.privileged else min(held)}: it could leave its fence")


def _guest(record: ContainerRecord, networks: Networks, documents: list[Trust]) -> None:
    """Who joins the namespace of another must not be able to take that one's fence down."""
    try:
        target = networks.containers.get(record.host_config.network_mode.removeprefix("container:"))
    except NotFound:
        return
    level = level_of(target, networks, [one for one in documents if fits(one, target)])
    held = FORBIDDEN & set(capabilities(record.host_config))
    if level != "full" and (record.host_config.privileged or held):
        raise Conflict(f"container {record.name}: it shares the network of {target.name}, whose trust is {level}: no "
                       f"{'--privileged' if record.host_config.privileged else min(held)}")


def _labelled(record: ContainerRecord, member: Member) -> Member:
    """What its labels say of who calls it and whom it calls outside."""
    labels = record.config.labels or {}
    project = "" if member.service.startswith(f"{trust.NO_PROJECT}/") else member.service.partition("/")[0]
    where = f"container {record.name}: label corten.allow"
    for text in labels.get("corten.allow", "").split(";"):
        if text.strip():
            member.rules.append(trust.rule(text, project, where, member.service))
    out = labels.get("corten.trust.out", "")
    member.out = [trust.Outside(text, f"container {record.name}: label corten.trust.out")
                  for text in out.split(",") if text.strip()]
    return member


def _ports(member: Member, record: ContainerRecord) -> Member:
    """Which of its ports speak HTTP, which are plain streams. Raises InvalidArgument when that is not clear."""
    labels, own = record.config.labels or {}, gateway_labels(record.config.labels)
    where = f"container {record.name}: label corten.trust"
    http = set(trust.ports(labels["corten.trust.http"], f"{where}.http")) if "corten.trust.http" in labels else set()
    tcp = set(trust.ports(labels["corten.trust.tcp"], f"{where}.tcp")) if "corten.trust.tcp" in labels else set()
    shown = exposed(record)
    if own.get("port", "").isdigit():
        http.add(int(own["port"]))
    elif own and len(shown) == 1:
        http.update(shown)
    for rule in member.rules:
        (http if rule.http else tcp).update(rule.ports)
        if rule.http and not rule.ports and not http:
            if len(set(shown) - tcp) != 1:
                raise InvalidArgument(
                    f"{rule.owner}: methods and paths need HTTP; which port of container {record.name} speaks it is "
                    "not clear: say port N, or the label corten.trust.http")
            http.update(set(shown) - tcp)
    member.http = sorted(http)
    member.tcp = sorted((tcp | set(shown)) - http)
    member.published = sorted({int(port.partition("/")[0]) for port, bound in
                               (record.host_config.port_bindings or {}).items()
                               if bound and port.partition("/")[2] in ("", "tcp") and port.partition("/")[0].isdigit()})
    return member


def _places(record: ContainerRecord, networks: Networks) -> list[Place]:
    found = []
    for name, endpoint in record.networking.items():
        network = networks.named().get(name)
        if network is None or not endpoint.ip_address:
            continue
        subnet = IPv4Network(f"{endpoint.ip_address}/{endpoint.ip_prefix_len or 32}", strict=False)
        found.append(Place(name, subnet, endpoint.gateway, endpoint.ip_address,
                           network.bridged and network.options.icc))
    return found


