"""Resources to Envoy as files, in the order that leaves no request without its cluster; its verdict read back.

A file is replaced by rename. Envoy counts what it takes and what it refuses; a refusal takes all files back to what
they were and becomes the error of the one who asked, in Envoy's words.
"""

import asyncio
import logging
import os
from hashlib import sha256
from typing import Any

import msgspec

from corten.base.errors import InvalidArgument, Unavailable
from corten.base.files import atomic_write, parse_json, read_bytes
from corten.gateway.envoy import Envoy
from corten.gateway.xds_mesh import MESH, STATS
from corten.gateway.xds_shapes import Json

Files = dict[str, list[Json]]  # name without .json -> resources
Counts = tuple[int, int]  # how often it was taken, how often refused
ALWAYS = ("lds", "cds")  # read by Envoy itself from its start on
VERDICT_S = 30.0
WARMING = r"^listener_manager\.total_listeners_warming$"
INSTANCES = "/proc/sys/fs/inotify/max_user_instances"
FEW_WATCHES, SPARE_WATCHES, MANY_WATCHES = 24, 512, 8192
_JWT = "extension_config_discovery.http_filter.corten.jwt"
log = logging.getLogger("corten.gateway")


class Refused(InvalidArgument):
    """Envoy does not take a configuration; nothing has changed."""


def counter_of(name: str) -> str:
    """Where Envoy counts what became of a file; empty: it does not."""
    if name == "lds":
        return "listener_manager.lds"
    if name == "cds":
        return "cluster_manager.cds"
    if name == "ecds":
        return _JWT
    if not name.startswith("rds."):
        return ""
    table = name.removeprefix("rds.")
    return f"http.{STATS if table.startswith(f'{MESH}-') else table}.rds.{table}"


class Delivery:
    """The files of one Envoy."""

    def __init__(self, envoy: Envoy) -> None:
        self.envoy = envoy
        self.folder = envoy.folder
        self.now: Files = {}
        self._listeners: bytes | None = None  # what Envoy reads of them; None: not looked at yet
        self._known: dict[str, Counts] = {}  # what was last seen of files that nothing but a change is counted of
        self._known_of = 0  # the process that counted

    def load(self) -> None:
        """What an earlier daemon has left, so that nothing is written again that is there."""
        for name in os.listdir(self.folder):
            if name.endswith(".json") and name.startswith(("lds.", "cds.", "ecds.", "rds.", "sds.")):
                try:
                    found: Any = parse_json(read_bytes(f"{self.folder}/{name}", 256 << 20), 256 << 20)
                    self.now[name.removesuffix(".json")] = found["resources"]
                except (OSError, InvalidArgument, KeyError, TypeError):
                    continue

    async def apply(self, wanted: Files) -> None:
        """Envoy does as `wanted` says when this returns. Raises Refused, Unavailable, Internal: nothing changed."""
        before = dict(self.now)
        allow_watches(len(wanted))
        try:
            if not self.envoy.pid:
                self._write(wanted)
                await self.envoy.start()
                await self._verdict(dict.fromkeys(self._watched(list(wanted)), (0, 0)))
            else:
                await self._change(_grown(self.now, wanted))
                await self._change(wanted)
        except BaseException:
            self._known.clear()
            self._write(before)
            if not before:
                await self.envoy.stop()
            raise
        for name in set(self.now) - set(wanted):
            os.unlink(f"{self.folder}/{name}.json")
            del self.now[name]

    async def _change(self, wanted: Files) -> None:
        changed = {name: resources for name, resources in wanted.items() if self.now.get(name) != resources}
        if not changed:
            return
        first = {name: resources for name, resources in changed.items() if name != "lds"}
        for part in (first, {"lds": changed["lds"]} if "lds" in changed else {}):
            if part:
                base = await self._base(self._watched(list(part)))
                self._write(part)
                await self._verdict(base)
                if "lds" in part:
                    await self._listening()

    async def _listening(self) -> None:
        """Wait until every listener listens. Raises Refused: what one reads is not there or wrong."""
        since, deadline = self.envoy.log_size(), asyncio.get_running_loop().time() + VERDICT_S
        while (await self.envoy.admin.counters(WARMING, "Gauges")).popitem()[1]:
            if asyncio.get_running_loop().time() > deadline:
                raise Refused(f"Envoy does not come to listen: {self.envoy.last_words(max(0, since - 8192))}")
            await asyncio.sleep(0.002)

    def _watched(self, names: list[str]) -> list[str]:
        """Of these the files whose verdict is counted: those that a listener reads."""
        if self._listeners is None:
            self._listeners = msgspec.json.encode(self.now.get("lds", []))
        listeners = self._listeners
        return [name for name in names if counter_of(name) and (
            name in ALWAYS or f"{self.folder}/{name}.json".encode() in listeners)]

    def _write(self, files: Files) -> None:
        for name, resources in sorted(files.items(), key=lambda item: item[0] == "lds"):
            if self.now.get(name) != resources:
                text = msgspec.json.encode(resources)
                version = sha256(text).hexdigest()[:16].encode()
                atomic_write(f"{self.folder}/{name}.json", b'{"version_info":"%b","resources":%b}' % (version, text))
                self.now[name] = resources
                if name == "lds":
                    self._listeners = text

    async def _base(self, names: list[str]) -> dict[str, Counts]:
        """What is counted before a change. To ask costs Envoy more the more it counts."""
        if self._known_of == self.envoy.pid and all(name in self._known for name in names):
            return {name: self._known[name] for name in names}
        return await self._counts(names)

    async def _counts(self, names: list[str]) -> dict[str, Counts]:
        if not names:
            return {}
        found = await self.envoy.admin.counters(r"\.update_(success|rejected)$", "Counters")
        return {name: (found.get(f"{counter_of(name)}.update_success", 0),
                       found.get(f"{counter_of(name)}.update_rejected", 0)) for name in names}

    async def _verdict(self, base: dict[str, Counts]) -> None:
        """Wait until each file was taken. Raises Refused with Envoy's reason."""
        since = self.envoy.log_size()
        restarts, deadline, pause = self.envoy.restarts, asyncio.get_running_loop().time() + VERDICT_S, 0.001
        waiting = dict(base)
        while waiting:
            try:
                counts = await self._counts(list(waiting))
            except Unavailable:
                await self.envoy.ready()
                continue
            if self.envoy.restarts != restarts:  # a new process counts from the start, and has read what is there
                restarts, waiting = self.envoy.restarts, dict.fromkeys(waiting, (0, 0))
            for name, (taken, refused) in counts.items():
                if refused > waiting[name][1]:
                    raise Refused(f"Envoy refuses this: {self.envoy.last_words(max(0, since - 8192))}")
                if taken > waiting[name][0]:
                    del waiting[name]
                    self._know(name, (taken, refused))
            if waiting and asyncio.get_running_loop().time() > deadline:
                raise Unavailable(f"Envoy has not taken {', '.join(sorted(waiting))} in {VERDICT_S:.0f} s")
            if waiting:
                await asyncio.sleep(pause)
                pause = min(0.05, pause * 1.5)

    def _know(self, name: str, counts: Counts) -> None:
        """Of other files a listener that begins to read one is counted too."""
        if self._known_of != self.envoy.pid:
            self._known_of, self._known = self.envoy.pid, {}
        if name in ALWAYS:
            self._known[name] = counts


def allow_watches(count: int) -> None:
    """Let Envoy watch so many files: it takes an inotify instance for each, and ends when there is none left.

    The kernel's usual 128 for all of a user are enough for a few only; they are raised, never lowered. inotify(7).
    Raises Unavailable when they cannot be.
    """
    if count <= FEW_WATCHES:
        return
    with open(INSTANCES, encoding="ascii") as file:
        limit = int(file.read())
    if limit >= count + SPARE_WATCHES:
        return
    try:
        with open(INSTANCES, "w", encoding="ascii") as file:
            file.write(str(max(MANY_WATCHES, count + SPARE_WATCHES)))
    except OSError:
        raise Unavailable(f"Envoy would watch {count} files, and fs.inotify.max_user_instances is {limit}: "
                          f"raise it with  sysctl fs.inotify.max_user_instances={MANY_WATCHES}") from None


def _grown(now: Files, wanted: Files) -> Files:
    """What is new beside what is there: clusters and issuers go only when no route names them any more."""
    grown = dict(wanted)
    names = {resource["name"] for resource in wanted.get("cds", [])}
    grown["cds"] = [*wanted.get("cds", []), *(one for one in now.get("cds", []) if one["name"] not in names)]
    if now.get("ecds") and wanted.get("ecds"):
        old, new = now["ecds"][0]["typed_config"], wanted["ecds"][0]["typed_config"]
        both = {**new, "providers": {**old["providers"], **new["providers"]},
                "requirement_map": {**old["requirement_map"], **new["requirement_map"]}}
        grown["ecds"] = [{**wanted["ecds"][0], "typed_config": both}]
    return grown
