"""The members of the mesh on this machine: their fences, their namespaces kept at hand for Envoy, their identities.

A fence is up before its container's program runs, and goes after its listeners have. A namespace is held by a mount on
a file, so that Envoy finds it again by name whatever becomes of process ids; the mount goes with the member.
"""

import logging
import os
from collections.abc import Iterable
from ipaddress import IPv4Address

from corten.base.errors import Internal
from corten.engine.engine import Engine
from corten.engine.records import ContainerRecord
from corten.gateway import members as lookup
from corten.gateway import trust, xds_hops, xds_mesh
from corten.gateway.certificates import Authority
from corten.gateway.delivery import Files
from corten.gateway.fields import Document
from corten.gateway.identities import Identities
from corten.gateway.members import Member
from corten.gateway.resolve import Served
from corten.gateway.xds_hops import Hop
from corten.gateway.xds_mesh import Own, Site
from corten.gateway.xds_shapes import Json
from corten.linux import mount
from corten.linux.namespaces import check_type
from corten.network import fence
from corten.network.fence import Fence

log = logging.getLogger("corten.gateway")
MNT_DETACH = 2


class Mesh:
    """What `Gateway` keeps in step with the containers that run; all calls under its lock."""

    def __init__(self, engine: Engine, folder: str, kept: str, audit: str) -> None:
        self.engine = engine
        domain = engine.config.trust_domain
        self.site = Site(folder, audit, domain, f"{engine.layout.exec_root}/mesh")
        self.identities = Identities(Authority(f"{kept}/trust", domain), engine.config.trust_life_s)
        self.members: list[Member] = []
        self._own: dict[str, Own] = {}  # by short id
        self._fences: dict[str, tuple[object, ...]] = {}  # by short id: the key of what is up

    # --- what is to be

    def look(self, records: Iterable[ContainerRecord], documents: Iterable[Document], served: Served) -> list[Member]:
        """The members as things are now. Raises InvalidArgument, Conflict."""
        found = lookup.members(records, self.engine.networks, documents)
        by_address = {str(place.address): member for member in found for place in member.places}
        for cluster in served.clusters.values():
            for address, port in cluster.endpoints:
                member = by_address.get(address)
                if member is not None:
                    cluster.meshed[address, port] = member.service
                    member.edge.add(port)
                    if port not in member.http and port not in member.tcp:
                        member.http.append(port)
        return found

    def files(self, members: list[Member], edge: bool) -> Files:
        """What Envoy reads besides the edge's: secrets first. Raises Unavailable without `cryptography`."""
        if not members:
            self.identities.keep(())
            return {}
        domain = self.site.domain
        names = {xds_mesh.identity(member): (trust.uri(domain, member.service), [at.address for at in member.places])
                 for member in members if not member.revoked}
        if edge:
            names[xds_mesh.EDGE] = trust.uri(domain, trust.GATEWAY), []
        self.identities.keep(names)
        held = {name: self.identities.of(name, *one) for name, one in names.items()}
        found = dict([xds_mesh.authorities(self.identities.authority.root())])
        found.update(xds_mesh.secret(name, one.chain, one.key) for name, one in held.items())
        found.update(cds=[], lds=[])
        for member in members:
            if not member.revoked:  # else what was open is closed with its listeners
                own = self._own_of(member)
                found.update(own.tables)
                found["cds"] += own.clusters
                found["lds"] += [*self._outward(member, xds_hops.hops(member, members), found), *own.listeners]
        return found

    def _own_of(self, member: Member) -> Own:
        kept = self._own.get(member.short)
        if kept is None or kept.key != member.key:
            kept = self._own[member.short] = Own(member, self.site)
        return kept

    def _outward(self, member: Member, hops: list[Hop], found: Files) -> list[Json]:
        site = self.site
        member.hops = sorted({(hop.address, hop.port) for hop in hops if hop.http})
        made = [xds_hops.outward(member, hops, site)]
        if member.hops:
            found[f"rds.{xds_hops.table_name(member)}"] = [xds_hops.table(member, hops, site)]
            made.append(xds_hops.listener(member, site))
        return made

    # --- doing it

    def hold(self, short: str, netns_fd: int) -> None:
        """Keep the namespace of a container that is being started at hand. Raises OSError."""
        path = f"{self.site.namespaces}/{short}"
        os.makedirs(self.site.namespaces, mode=0o700, exist_ok=True)
        self._let_go(short)
        target = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            found = mount.copy_tree(f"/proc/self/fd/{netns_fd}", False)
            try:
                mount.attach(found, target)
            finally:
                os.close(found)
        finally:
            os.close(target)

    def enclose(self, members: list[Member], ready: bool) -> None:
        """Put up every fence that is not up yet, or is another now. Raises Internal, naming the container.

        Until the listeners are `ready` only hops that were there before are taken.
        """
        before = {member.short: set(member.hops) for member in self.members}
        for member in members:
            wanted = fence_of(member, [hop for hop in member.hops if ready or hop in before.get(member.short, ())])
            if self._fences.get(member.short) == wanted.key:
                continue
            try:
                namespace = self._namespace(member)
                try:
                    fence.build(namespace, wanted)
                finally:
                    os.close(namespace)
            except OSError as error:
                raise Internal(f"container {member.name}: its fence cannot be put up: {error}") from None
            self._fences[member.short] = wanted.key

    def settle(self, members: list[Member]) -> None:
        """These are the members now, and Envoy has them: take down what others had. Raises Internal."""
        self.enclose(members, True)
        self.members = members
        kept = {member.short for member in members}
        for short in set(self.held()) - kept:
            self._open_up(short)
            self._let_go(short)

    def _open_up(self, short: str) -> None:
        """Take the fence of a container that goes on without, or is gone, away."""
        try:
            namespace = os.open(f"{self.site.namespaces}/{short}", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            if any(record.id.startswith(short) and record.running for record in self.engine.containers):
                check_type(namespace, "net", short)
                fence.tear_down(namespace)
        except OSError as error:
            log.warning("the fence of container %s: %s", short, error)
        finally:
            os.close(namespace)

    def _let_go(self, short: str) -> None:
        path = f"{self.site.namespaces}/{short}"
        self._fences.pop(short, None)
        self._own.pop(short, None)
        try:
            mount.umount(path, MNT_DETACH)
        except OSError:
            pass  # never mounted, or the machine was started anew
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass

    def held(self) -> list[str]:
        """The short ids of containers whose namespaces are at hand."""
        try:
            return os.listdir(self.site.namespaces)
        except FileNotFoundError:
            return []

    def _namespace(self, member: Member) -> int:
        """A descriptor of the member's namespace; held from now on. Raises OSError."""
        path = f"{self.site.namespaces}/{member.short}"
        for attempt in range(2):
            try:
                found = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    check_type(found, "net", path)
                except OSError:
                    os.close(found)
                    raise
                return found
            except OSError:
                if attempt:
                    raise
            record = self.engine.containers.get(member.id)
            namespace = os.open(f"/proc/{record.state.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                self.hold(member.short, namespace)
            finally:
                os.close(namespace)
        raise AssertionError("not reached")


def fence_of(member: Member, hops: list[tuple[IPv4Address, int]]) -> Fence:
    """What its fence lets through."""
    return Fence(
        [place.subnet for place in member.places], out=[(one.network, one.port) for one in member.out],
        published=member.published, gateways=[place.gateway for place in member.places if place.gateway],
        hops=hops, shut=member.revoked)
