"""The networks of one daemon: made, listed, removed, connected; and what a container's start and end ask of them.

Devices and rules are made when first needed: a daemon that runs no container with a network leaves the host alone.
The kernel's state outlives the daemon; `reconcile` compares the two.
Names are the resolver's (network_names.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from corten.base.errors import Conflict, Internal, InvalidArgument, NotFound
from corten.base.ids import is_id_prefix, new_id
from corten.base.paths import EXEC_ROOT
from corten.base.units import now_ns
from corten.engine import (
    endpoint_check,
    endpoints,
    links,
    network_connect,
    network_create,
    network_etc,
    network_live,
    network_trace,
    network_verbs,
)
from corten.engine.default_network import default_record
from corten.engine.default_settings import NO_BRIDGE, DefaultNetwork, network_options
from corten.engine.network_names import Resolver
from corten.engine.network_records import (
    ContainerTable,
    CreateNetwork,
    Network,
    NetworkRecord,
    bridge_name,
    decode_network,
    rules_of,
    table_name,
)
from corten.engine.network_views import dns_names, settings_json
from corten.engine.network_watch import Watch
from corten.engine.records import ContainerRecord, EndpointConfig, encode
from corten.engine.settings import NetworkSettings
from corten.network import driver, ipam
from corten.network.bridge import Bridges
from corten.network.firewall import Firewall
from corten.network.ipam import Network as Subnet
from corten.network.ports import Held, Reserver

if TYPE_CHECKING:
    from corten.base.paths import Layout
    from corten.engine.db import Database
    from corten.engine.events import Events

Names = list[str]  # the class below has a method `list`
Records = list[ContainerRecord]
Objects = list[dict[str, Any]]
HeldPorts = dict[str, list[Held]]
NetworkList = list[Network]
Subnets = list[Subnet]
Filters = dict[str, list[str]]

_BUILTIN = (("host", "host"), ("none", "null"))


class Networks:
    """All networks; `containers` must be set (to the engine's) before anything but `open` is called."""

    containers: ContainerTable

    def __init__(
        self, layout: Layout, db: Database, events: Events, settings: NetworkSettings | None = None,
    ) -> None:
        """Raises InvalidArgument for settings that cannot be."""
        self.layout = layout
        self.db = db
        self.events = events
        self.config = settings = settings or NetworkSettings()
        own_name = bridge_name(layout.exec_root, EXEC_ROOT)
        self.bridge = own_name if settings.bridge in ("", NO_BRIDGE) else settings.bridge
        driver.check_link_name(self.bridge)
        self.plan = DefaultNetwork(settings, self.bridge)
        self.pools = [ipam.parse_pool(text) for text in settings.address_pools]
        self.default_options = network_options(settings.network_options)
        self.bridges = Bridges(forward=settings.ip_forward)
        self.firewall = Firewall(table_name(self.bridge))
        self.reserver = Reserver(self._port_holders)
        self.held: HeldPorts = {}  # host ports by container id
        self.leaving: set[str] = set()  # host ends of links that should go with their namespace
        self.retired: NetworkRecord | None = None  # the default network of an earlier daemon, until its device is gone
        self._networks: dict[str, Network] = {}
        self.watcher = Watch(self)
        self.resolver = Resolver(self)

    # --- life

    async def open(self) -> None:
        """Read the networks; the first time make bridge (unless it is not to be), host and none. Touches no device."""
        for _, data in self.db.all("network"):
            record = decode_network(data)
            if record.default and self.plan.absent:
                self.retired = record
            else:
                self._networks[record.name] = Network(record)
        for name, kind in _BUILTIN:
            if name not in self._networks:
                self.store(NetworkRecord(id=new_id(), name=name, created_ns=now_ns(), driver=kind))
        if not self.plan.absent:
            self.store(default_record(self))

    async def reconcile(self, live: Records) -> None:
        """Make kernel and database agree with the containers that run: orphans go, what is missing is put back."""
        network_live.reconcile(self, live)
        if any(network.names for network in self.all()):
            self.resolver.wanted()

    def watch(self) -> None:
        """From now on repair the firewall when someone else changes it; for a running loop."""
        self.watcher.start()

    async def teardown(self) -> None:
        """Take devices and the table away. Only when no container of ours runs any more."""
        await self.resolver.end()
        network_live.teardown(self)

    def close(self) -> None:
        """Let go of sockets, host ports among them; the kernel keeps devices and rules."""
        self.watcher.close()
        self.resolver.close()
        self.bridges.close()
        self.firewall.close()
        for held in self.held.values():
            for each in held:
                each.close()
        self.held.clear()

    # --- look-up

    def all(self) -> NetworkList:
        """Every network, oldest first."""
        return sorted(self._networks.values(), key=lambda network: network.record.created_ns)

    def named(self) -> dict[str, Network]:
        """Every network by name."""
        return self._networks

    def find(self, ref: str) -> Network | None:
        """As `get`; None when there is none, or more than one."""
        try:
            return self.get(ref)
        except (NotFound, InvalidArgument):
            return None

    def get(self, ref: str) -> Network:
        """By full id, name or unique beginning of an id. Raises NotFound, InvalidArgument when more than one fits."""
        for network in self._networks.values():
            if network.record.id == ref:
                return network
        found = self._networks.get(ref)
        if found:
            return found
        fits = [n for n in self._networks.values() if n.record.id.startswith(ref)] if is_id_prefix(ref) else []
        if len(fits) > 1:
            raise InvalidArgument(f"network {ref} is ambiguous ({len(fits)} matches found on ID prefix)")
        if not fits:
            raise NotFound(f"network {ref} not found")
        return fits[0]

    def connected(self, network: Network) -> Records:
        """The containers that have an endpoint on it now."""
        name = network.record.name
        return [
            record for record in self.containers
            if name in record.networking and record.networking[name].endpoint_id
        ]

    def users(self, network: Network) -> Records:
        """The containers that name it, running or not."""
        return [record for record in self.containers if network.record.name in record.networking]

    # --- verbs on networks

    async def create(self, request: CreateNetwork) -> tuple[str, str]:
        """(id, warning). POST /networks/create. Raises Conflict, Forbidden, InvalidArgument, NotFound."""
        return network_verbs.create(self, request).record.id, ""

    def list(self, filters: Filters | None = None) -> Objects:
        """GET /networks."""
        return network_verbs.listing(self, filters or {})

    def inspect(self, ref: str, scope: str = "") -> dict[str, Any]:
        """GET /networks/{id}."""
        return network_verbs.inspect(self, ref, scope)

    def trace(self, container: str) -> dict[str, Any]:
        """The way of a container's packets. Raises NotFound, Conflict."""
        return network_trace.trace(self, self.containers.get(container))

    async def remove(self, ref: str) -> None:
        """DELETE /networks/{id}. Raises Forbidden while a container is connected, and for the predefined ones."""
        network_verbs.remove(self, ref)

    async def prune(self, filters: Filters) -> Names:
        """Remove the user's networks on which no container runs; their names. POST /networks/prune."""
        return network_verbs.prune(self, filters)

    async def connect(self, ref: str, container: str, endpoint: EndpointConfig | None = None) -> None:
        """POST /networks/{id}/connect."""
        network_connect.connect(self, ref, container, endpoint or EndpointConfig())

    async def disconnect(self, ref: str, container: str, force: bool = False) -> None:
        """POST /networks/{id}/disconnect."""
        network_connect.disconnect(self, ref, container, force)

    # --- what a container's life asks; bodies in endpoint*.py and network_etc.py

    def check_create(self, record: ContainerRecord) -> Names:
        """Refuse what no start could do; warnings. Networks need not exist yet. Raises InvalidArgument, Unsupported."""
        return endpoint_check.check_create(self, record)

    async def reserve(self, record: ContainerRecord) -> None:
        """Addresses and host ports for a start, into `record`, or nothing at all.

        Raises NotFound, Conflict, Internal (a port is taken) with docker's texts.
        """
        endpoints.reserve(self, record)

    def etc_files(self, record: ContainerRecord) -> None:
        """Write hosts, hostname and resolv.conf into the container's folder; after `reserve`."""
        network_etc.write(self, record)

    def etc_folder(self, record: ContainerRecord) -> str:
        """Where the files of `record` are: with `container:X` they are X's."""
        return network_etc.folder(self, record)

    def prepare(self, record: ContainerRecord) -> None:
        """What of `attach` needs no namespace, ahead of it; a failure is told by `attach`."""
        endpoints.prepare(self, record)

    async def attach(self, record: ContainerRecord, netns_fd: int, pidfd: int) -> None:
        """Connect the namespace of a container that is being started: links, addresses, routes, ports, names."""
        entering = self.resolver.enter(record, netns_fd, pidfd)
        endpoints.attach(self, record, netns_fd)
        for other in links.linking_to(self, record):
            network_etc.relink(self, other)
        await self.resolver.entered(record, entering)

    async def release(self, record: ContainerRecord) -> None:
        """Give back what `reserve` and `attach` took, and clear it from `record`; idempotent."""
        self.resolver.left(record.id)
        endpoints.release(self, record)

    def renamed(self, record: ContainerRecord) -> None:
        """A container has another name."""
        for endpoint in record.networking.values():
            if endpoint.dns_names is not None:
                endpoint.dns_names = dns_names(endpoint, record)
        self.containers.save(record)
        if record.running:
            self.resolver.changed(record)

    async def removed(self, record: ContainerRecord) -> None:
        """The container is gone for good."""
        endpoints.release(self, record)

    def settings(self, record: ContainerRecord) -> dict[str, Any]:
        """The NetworkSettings of inspect."""
        return settings_json(record, self._networks)

    def namespace_of(self, record: ContainerRecord) -> str:
        """"new", "host" or the path of the namespace to join. Raises NotFound, Conflict when X does not run."""
        mode = record.host_config.network_mode
        if record.config.network_disabled:
            return "new"
        if mode == "host":
            return "host"
        if not mode.startswith("container:"):
            return "new"
        return f"/proc/{self.joined(record).state.pid}/ns/net"

    def reaches_outside(self, record: ContainerRecord) -> bool:
        """Whether one of its networks leads out of this host."""
        return any(
            endpoint.endpoint_id and (network := self._networks.get(name)) is not None and network.bridged
            and not network.record.internal for name, endpoint in record.networking.items()
        )

    def joined(self, record: ContainerRecord) -> ContainerRecord:
        """The X of `container:X`, which must run. Raises NotFound, Conflict."""
        try:
            target = self.containers.get(record.host_config.network_mode.removeprefix("container:"))
        except NotFound as error:
            raise Internal(f"joining network namespace of container: {error}") from None
        if target.id == record.id:
            raise InvalidArgument("cannot join own network namespace")
        if not target.running:
            raise Conflict("cannot join network namespace of a non running container: "
                           f"container {target.name} is {target.state.status}")
        return target

    # --- for the modules beside this one

    def ensure(self, network: Network) -> None:
        """Device and rules of a bridge network are there after this. Raises Internal."""
        if network.ready:
            return
        self.ensure_device(network)
        if network.bridged:
            self.firewall.add_bridge(rules_of(network))
        network.ready = True

    def ensure_device(self, network: Network) -> None:
        """The bridge, or the link below macvlan and ipvlan links. Raises Internal, InvalidArgument."""
        record = network.record
        if network.bridged:
            self.bridges.ensure(record.bridge, network.bridge_addresses, network.options.mtu)
        elif self.bridges.ensure_parent(record.bridge, record.driver, network_create.dummy_name(record)):
            record.made_parent = True
            self.db.put("network", record.id, encode(record), record.name)

    def publish(self, network: Network, action: str, **attributes: str) -> None:
        """Tell an event of a network."""
        record = network.record
        self.events.publish("network", action, record.id, {"name": record.name, "type": record.driver, **attributes})

    def store(self, record: NetworkRecord) -> Network:
        """Know a network from now on, in the database too."""
        self.db.put("network", record.id, encode(record), record.name)
        network = self._networks[record.name] = Network(record)
        return network

    def forget(self, network: Network) -> None:
        """Know it no more; its device is the caller's."""
        with self.db.transaction():
            self.db.delete("network", network.record.id)
            self.db.execute("DELETE FROM lease_turn WHERE network_id = ?", network.record.id)
        self._networks.pop(network.record.name, None)

    def devices(self) -> set[str]:
        """The bridge devices of all networks."""
        return {self.bridge, *(n.record.bridge for n in self._networks.values() if n.record.bridge)}

    def subnets(self, but: str = "") -> Subnets:
        """The subnets of all networks, less the one named `but`."""
        return [
            subnet for name, n in self._networks.items() if name != but and not n.record.config_only
            for subnet in n.subnets
        ]

    @property
    def seed(self) -> str:
        """What unique local prefixes follow from: random, and the same as long as this data root lives."""
        return self._networks["none"].record.id

    def _port_holders(self, protocol: str, port: int) -> Names:
        rows = self.db.execute("SELECT host_ip FROM port WHERE proto = ? AND port = ?", protocol, port)
        return [str(row[0]) for row in rows]
