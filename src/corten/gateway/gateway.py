"""The gateway of one engine: what is registered, what follows from it, and Envoy that does it.

One change at a time: look everything up anew, render, let Envoy judge, then put it on record. What cannot be done is an
error for the one who asked, and all stays as it was. A container registers in its start, before its program runs.
"""

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Iterable
from typing import Any

import msgspec

from corten.base.errors import Conflict, Error, InvalidArgument, NotFound
from corten.base.files import parse_json, remove_tree
from corten.engine.engine import Engine
from corten.engine.records import ContainerRecord
from corten.gateway import documents, explain, members, render, trust_views, versions, views
from corten.gateway.audit import follow, tail
from corten.gateway.certificates import Authority
from corten.gateway.delivery import Delivery, Files
from corten.gateway.envoy import Envoy, find, keeps_reasons
from corten.gateway.fields import Document
from corten.gateway.instances import instance_of
from corten.gateway.labels import api_of, gateway_labels
from corten.gateway.members import Member
from corten.gateway.mesh import Mesh
from corten.gateway.model import Api, Backend, Policy, Trust, Version, key_of, schema, to_document, to_plain
from corten.gateway.probe import probe
from corten.gateway.resolve import Served, check_conflicts, resolve
from corten.gateway.trust import LEVELS
from corten.gateway.watch import Watch

log = logging.getLogger("corten.gateway")
TABLE = "gateway"
USAGE_LINES = 50_000


class Registration(msgspec.Struct, forbid_unknown_fields=True, rename="pascal"):
    """What `corten gateway register` asks for."""

    name: str
    backends: list[Backend]
    project: str = ""
    labels: dict[str, str] = {}


class Gateway:
    """What the engine calls (corten/engine/gateway.py) and what the API asks."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        config, layout = engine.config, engine.layout
        self.folder = f"{layout.exec_root}/gateway"
        self.kept = f"{layout.data_root}/gateway"
        self.envoy = Envoy(self.folder, config.gateway_envoy)
        self.delivery = Delivery(self.envoy)
        self.authority = Authority(f"{self.kept}/authority")
        self.watch = Watch(self)
        self.served = Served()
        self._documents: dict[str, Document] = {}
        self._joining: dict[str, ContainerRecord] = {}
        self._leaving: set[str] = set()
        self._lock = asyncio.Lock()
        self._opening: asyncio.Task[None] | None = None
        self.behind = ""  # why Envoy is still to be told of something
        self.mesh = Mesh(engine, self.folder, self.kept, f"{self.kept}/audit.log")
        self.place = render.Place(
            self.mesh.site, render.address(config.gateway_http), render.address(config.gateway_https),
            self.watch.read, self.authority.certificate, render.collector(config.gateway_otlp),
            lambda: keeps_reasons(config.gateway_envoy))

    # --- life

    async def open(self) -> None:
        """Read what is on record, find Envoy, and make it do as things are now. What cannot be done is logged."""
        for key, data in self.engine.db.all(TABLE):
            try:
                self._documents[key] = to_document(parse_json(data))
            except InvalidArgument as error:
                log.error("the gateway's document %s: %s", key, error)
        os.makedirs(self.kept, mode=0o700, exist_ok=True)
        if os.path.isdir(self.folder):
            self.delivery.load()
            self.mesh.identities.load(self.delivery.now)
            self.envoy.adopt()
        self._recall()
        self._opening = asyncio.get_running_loop().create_task(self._quietly())
        self.watch.start()

    def _recall(self) -> None:
        """What is served and by whom, as an earlier daemon has left it: nobody waits for Envoy to be told."""
        try:
            served = self._resolve(self._documents)
            self.mesh.members = self.mesh.look(self.records(), self._documents.values(), served)
            self.served = served
        except Error as error:
            log.error("the gateway's documents: %s", error)

    async def close(self, resting: bool) -> None:
        """Let go; `resting`: no container runs, so Envoy ends too."""
        self.watch.stop()
        if self._opening:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        if resting:
            await self.envoy.stop()
            if os.path.isdir(self.folder):
                remove_tree(self.folder)
        else:
            self.envoy.leave()

    # --- what the engine says of containers

    def check(self, record: ContainerRecord) -> None:
        """A container is being made: its labels make sense. Raises InvalidArgument, Unsupported."""
        labels = record.config.labels or {}
        members.check(record)
        own = gateway_labels(labels)
        if own:
            api_of(own, labels.get("com.docker.compose.service", "") or "name",
                   labels.get("com.docker.compose.project", ""))

    async def join(self, record: ContainerRecord, netns_fd: int) -> None:
        """Its network is there and its program not yet: it is served from now on.

        Raises Conflict, InvalidArgument, NotFound, Unavailable; then the start fails and nothing has changed.
        """
        if not self._concerns(record):
            return
        async with self._lock:
            self._joining[record.id] = record
            if self._level(record) != "full":
                self.mesh.hold(record.id[:12], netns_fd)
            self._leaving.discard(record.id)
            try:
                await self._commit(self._documents)
            except BaseException:
                del self._joining[record.id]
                raise

    def joined(self, record: ContainerRecord) -> None:
        """Its program runs, or never will."""
        self._joining.pop(record.id, None)

    async def leave(self, record: ContainerRecord) -> None:
        """It is about to be stopped, or has ended: it gets no more requests."""
        self._joining.pop(record.id, None)
        if not self._concerns(record):
            return
        async with self._lock:
            if record.running:
                self._leaving.add(record.id)
            else:
                self._leaving.discard(record.id)
            await self._quietly(locked=True)

    def check_connect(self, network: str, container: str) -> None:
        """A running container gets no stricter by a network: its connections are there already. Raises Conflict."""
        target, record = self.engine.networks.find(network), self._record(container)
        asked = (target.record.labels or {}).get("corten.trust", "full") if target else "full"
        if record is not None and record.running and LEVELS.index(self._level(record)) < LEVELS.index(asked):
            raise Conflict(f"network {network} asks for trust {asked}, and container {record.name} runs with "
                           f"{self._level(record)}: stop it, then connect it")

    def _record(self, ref: str) -> ContainerRecord | None:
        try:
            return self.engine.containers.get(ref)
        except (NotFound, InvalidArgument):
            return None

    async def moved(self, container: str) -> None:
        """Its networks are others now."""
        record = self._record(container)
        if record is not None and record.running and self._concerns(record):
            await self.refresh()

    def _concerns(self, record: ContainerRecord) -> bool:
        """Whether it registers itself, or is what a document calls a backend."""
        if gateway_labels(record.config.labels) or self._level(record) != "full" or record.id[:12] in self.mesh.held():
            return True
        if record.host_config.network_mode.startswith("container:") and self.mesh.members:
            return True
        backends = [backend for one in self._documents.values() if isinstance(one, Api)
                    for backend in [*one.backends, *(inner for route in one.routes for inner in route.backends)]]
        names = {record.name, record.id, (record.config.labels or {}).get("com.docker.compose.service", "")} - {""}
        return any(backend.service in names or backend.container in names for backend in backends)

    def _level(self, record: ContainerRecord) -> str:
        said = [one for one in self._documents.values() if isinstance(one, Trust)]
        return members.level_of(record, self.engine.networks, [one for one in said if members.fits(one, record)])

    # --- what users ask

    async def apply(self, data: bytes, dry: bool = False) -> list[dict[str, str]]:
        """Register documents, all or none; what became of each. Raises InvalidArgument, Conflict, NotFound…"""
        given = documents.read(data)
        keys = [key_of(document) for document in given]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise InvalidArgument(f"{min(twice)} is there twice")
        async with self._lock:
            wanted = {**self._documents, **dict(zip(keys, given, strict=True))}
            said = [{"Key": key, "Result": self._result(key, one)} for key, one in zip(keys, given, strict=True)]
            if dry:
                self._plan(wanted)
                return said
            await self._commit(wanted)
            with self.engine.db.transaction():
                for key, document in zip(keys, given, strict=True):
                    self.engine.db.put(TABLE, key, msgspec.json.encode(to_plain(document)))
            self._documents = wanted
        return said

    def _result(self, key: str, document: Document) -> str:
        if key not in self._documents:
            return "created"
        return "unchanged" if self._documents[key] == document else "changed"

    async def remove(self, key: str) -> None:
        """Take a document away. Raises NotFound, Conflict (a Policy in use, an Api of labels)."""
        async with self._lock:
            if key not in self._documents:
                if key.removeprefix("Api/") in self.served.apis:
                    raise Conflict(f"{key} comes from {self.served.apis[key.removeprefix('Api/')][1]}: stop the "
                                   "container to take it away")
                raise NotFound(f"no such document: {key}")
            wanted = {name: one for name, one in self._documents.items() if name != key}
            name = key.partition("/")[2]
            if isinstance(self._documents[key], Policy):
                users = {entry.api for entry in self.served.entries if name in entry.policies}
            else:
                users = {key_of(entry.version) for entry in self.served.entries
                         if entry.version and key == f"Api/{entry.api}"}
            if users:
                raise Conflict(f"{key} is in use by {', '.join(sorted(users))}")
            await self._commit(wanted)
            self.engine.db.delete(TABLE, key)
            self._documents = wanted

    async def register(self, data: bytes) -> list[dict[str, str]]:
        """One Api in the words of labels: Name, Project, Labels (without prefix), Backends. Raises as `apply`."""
        asked = parse_json(data)
        try:
            given = msgspec.convert(asked, Registration)
        except msgspec.ValidationError as error:
            raise InvalidArgument(f"invalid JSON: {error}") from None
        api = api_of(given.labels, given.name, given.project)
        port = api.backends[0].port
        api.backends = given.backends
        for backend in api.backends:
            backend.port = backend.port or port
        return await self.apply(msgspec.json.encode(to_plain(api)))

    def documents(self) -> list[dict[str, object]]:
        """All that was applied, as it was written."""
        return [to_plain(self._documents[key]) for key in sorted(self._documents)]

    def routes(self) -> list[dict[str, Any]]:
        """Every route that is served."""
        return views.routes(self.served)

    def show(self, name: str) -> dict[str, Any]:
        """All of one Api: documents, routes, policies as merged, backends. Raises NotFound, InvalidArgument."""
        return views.api(self.served, name)

    def explain(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Which route, policies and backends a request would get, and why. Raises InvalidArgument."""
        return explain.explain(self.served, asked, self.place)

    async def status(self) -> dict[str, Any]:
        """Envoy's state and where the edge listens."""
        return {
            "Running": bool(self.envoy.pid), "Pid": self.envoy.pid, "Restarts": self.envoy.restarts,
            "Http": self.engine.config.gateway_http, "Https": self.engine.config.gateway_https,
            "Audit": self.place.audit,
            "Routes": len(self.served.entries), "Idle": self.served.idle,
        }

    async def test(self, asked: dict[str, Any], body: bytes) -> dict[str, Any]:
        """Send a request through the edge; the answer and its audit line. Raises InvalidArgument, Unavailable."""
        if not self.envoy.pid:
            raise Conflict("nothing is registered with the gateway, so it does not run")
        return await probe(asked, body, self.place, f"{self.authority.folder}/ca.pem")

    def audit(self, count: int, on: bool) -> AsyncIterator[bytes]:
        """The last lines of the audit log; then, if `on`, those that come."""
        return follow(self.place.audit, count, on)

    def versions(self) -> list[dict[str, object]]:
        """Old versions, their state, and who still asks for them, by the newest part of the audit log."""
        lines = [json.loads(line) for line in tail(self.place.audit, USAGE_LINES)]
        found = [one for one in self._documents.values() if isinstance(one, Version)]
        return versions.usage(sorted(found, key=lambda one: (one.api, one.name)), lines)

    def schema(self) -> dict[str, object]:
        """The JSON schema of documents."""
        return schema()

    async def metrics(self) -> bytes:
        """Envoy's counters in Prometheus' text; empty when it does not run."""
        if not self.envoy.pid:
            return b""
        return await self.envoy.admin.ask("GET", "/stats/prometheus")

    async def rates(self) -> list[dict[str, Any]]:
        """What each route has been asked and how it went, since Envoy started."""
        if not self.envoy.pid:
            return []
        return views.rates(self.served, await self.envoy.admin.counters(r"^(vhost|cluster)\."))

    def trust(self) -> list[dict[str, Any]]:
        """Every running container with its level and identity."""
        return trust_views.rows(self.records(), self.mesh.members, self.mesh.identities)

    def matrix(self) -> list[dict[str, Any]]:
        """Who may call whom."""
        return trust_views.matrix(self.records(), self.mesh.members)

    async def rotate(self) -> None:
        """New certificates for all. Raises Unavailable."""
        async with self._lock:
            self.mesh.identities.keep(())
            await self._commit(self._documents)

    async def backends(self) -> list[dict[str, Any]]:
        """What is behind the Apis and how it does: members, circuits, ejections."""
        counters = await self.envoy.admin.counters(r"^cluster\.") if self.envoy.pid else {}
        return views.backends(self.served, counters)

    # --- doing it

    def records(self) -> Iterable[ContainerRecord]:
        """The containers that are served or could be."""
        for record in self.engine.containers:
            if (record.running or record.id in self._joining) and record.id not in self._leaving:
                yield record

    def _resolve(self, wanted: dict[str, Document]) -> Served:
        networks = self.engine.networks
        served = resolve([wanted[key] for key in sorted(wanted)],
                         [instance_of(record, networks) for record in self.records()])
        for key in sorted(wanted):
            document = wanted[key]
            if isinstance(document, Version):
                served.entries += versions.entries(document, served.entries)
        check_conflicts(served.entries)
        return served

    def _plan(self, wanted: dict[str, Document]) -> tuple[Served, list[Member], Files]:
        """All that follows from documents and containers. Raises InvalidArgument, Conflict, NotFound, Unavailable."""
        served = self._resolve(wanted)
        found = self.mesh.look(self.records(), wanted.values(), served)
        self.watch.forget()
        return served, found, render.files(served, self.place, self.mesh.files(found, bool(served.entries)))

    async def _commit(self, wanted: dict[str, Document]) -> None:
        """Make Envoy do it; nothing is kept when that fails. The caller holds the lock."""
        served, found, files = self._plan(wanted)
        if not served.entries and not found:
            await self._rest()
        else:
            if not self.envoy.pid:
                find(self.engine.config.gateway_envoy)
                os.makedirs(self.folder, mode=0o700, exist_ok=True)
            self.mesh.enclose(found, False)
            try:
                await self.delivery.apply(files)
            except BaseException:
                self.mesh.settle(self.mesh.members)
                raise
        self.mesh.settle(found)
        self.served, self.behind = served, ""

    async def _rest(self) -> None:
        """Nothing is served: Envoy ends, to be started with the next route."""
        if self.envoy.pid or self.envoy.wanted:
            await self.envoy.stop()
        self.delivery.now.clear()
        if os.path.isdir(self.folder):
            remove_tree(self.folder)

    async def refresh(self) -> None:
        """Files that documents name have changed, or a certificate is to be renewed."""
        await self._quietly()

    async def _quietly(self, locked: bool = False) -> None:
        """Bring Envoy up to date when nobody waits who could be told."""
        try:
            if locked:
                await self._commit(self._documents)
            else:
                async with self._lock:
                    await self._commit(self._documents)
        except (Error, OSError) as error:
            if self.behind != str(error):
                log.error("the gateway stays as it was: %s", error)
            self.behind = str(error) or repr(error)
