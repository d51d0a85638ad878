"""Solves vertices: out of the cache when the same work was done before, by waiting when another build is at it, else by
doing it.

A step named by files (graph.py) is remembered by an image that may have another configuration and history: then those
files get this build's, with the time at which they were made. Equal builds are so the same image, to the id.

Who comes second to a step sees its output from the beginning. When the first fails or leaves, the second does it
itself: what it was lent (secrets, a network) may be other than what the first had.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from corten.build.graph import Vertex
from corten.build.ops import Backend, Observer, Operation
from corten.build.stage import BuildImage, Layer

_KEPT_BYTES = 1 << 20  # of a step's output, for who comes second


class Flight:
    """A step under way: an observer that passes all on to everybody who waits; `over` when it has ended either way."""

    def __init__(self, leader: Observer) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._observers = [leader]
        self._told: list[tuple[int, bytes]] = []
        self._kept = 0

    def follow(self, observer: Observer) -> Callable[[], None]:
        """Tell `observer` too, of what was too. What is returned ends that."""
        for stream, data in self._told:
            observer.output(stream, data)
        self._observers.append(observer)
        return lambda: self._observers.remove(observer)

    def running(self, container_id: str) -> None:
        self._observers[0].running(container_id)

    def output(self, stream: int, data: bytes) -> None:
        if self._kept < _KEPT_BYTES:
            self._kept += len(data) + 100
            self._told.append((stream, data))
        for observer in self._observers:
            observer.output(stream, data)

    def cached(self) -> None:
        self._observers[0].cached()


class Solver:
    """One stage's view of the cache. use_cache False: nothing is looked up, results are remembered all the same."""

    __slots__ = ("backend", "use_cache")

    def __init__(self, backend: Backend, use_cache: bool) -> None:
        self.backend, self.use_cache = backend, use_cache

    async def solve(self, vertex: Vertex, observer: Observer) -> BuildImage:
        """The image the vertex yields; sets `vertex.image`. Raises whatever the operation raises."""
        if vertex.image is None:
            assert vertex.parent is not None
            parent = await self.solve(vertex.parent, observer)
            vertex.image = await (self._cached(vertex, parent, observer) if self.use_cache
                                  else self._work(vertex, parent, observer))
        return vertex.image

    async def _cached(self, vertex: Vertex, parent: BuildImage, observer: Observer) -> BuildImage:
        flights = self.backend.flights
        joined = False
        while True:
            if (found := self._here(vertex, parent, self.backend.recall(vertex.digest))) is not None:
                if not joined:
                    observer.cached()
                return found
            flight = flights.get(vertex.digest)
            if flight is None:
                break
            joined = True
            leave = flight.follow(observer)
            try:
                await asyncio.shield(flight.over)
            finally:
                leave()
        flight = flights[vertex.digest] = Flight(observer)
        try:
            elsewhere = await self.backend.recall_elsewhere(vertex.digest)
            if (found := self._here(vertex, parent, elsewhere)) is not None:
                observer.cached()
                self._remember(vertex, found)
                return found
            return await self._work(vertex, parent, flight)
        finally:
            del flights[vertex.digest]
            flight.over.set_result(None)

    def _here(self, vertex: Vertex, parent: BuildImage, found: BuildImage | None) -> BuildImage | None:
        """What is remembered of a vertex as the image that comes after `parent`; None when there is none."""
        if found is None or not vertex.by_files:
            return found
        operation = vertex.operation
        assert operation is not None
        below, above = (list(image.document["rootfs"]["diff_ids"]) for image in (parent, found))
        if above[:len(below)] != below or len(above) > len(below) + 1:  # what comes from elsewhere may be anything
            return None
        layer = Layer(found.layers[-1], above[-1]) if len(above) > len(below) else None
        document = operation.commit(operation.created_by, layer)
        if "created" in document and (created := found.document.get("created")):
            document["created"] = created
            for entry in document["history"][-1:]:
                entry["created"] = created
        image = self.backend.register(document, found.layers, parent.id)
        self.backend.renew(vertex.digest, image, _description(operation))
        return image

    async def _work(self, vertex: Vertex, parent: BuildImage, observer: Observer) -> BuildImage:
        operation = vertex.operation
        assert operation is not None
        layer = await operation.execute(self.backend, parent, observer)
        await asyncio.sleep(0)  # a step that runs nothing gives others their turn too
        document = operation.commit(operation.created_by, layer)
        layers = [*parent.layers, layer.name] if layer else parent.layers
        image = self.backend.register(document, layers, parent.id)
        self._remember(vertex, image)
        return image

    def _remember(self, vertex: Vertex, image: BuildImage) -> None:
        assert vertex.operation is not None
        self.backend.remember(vertex.digest, image, _description(vertex.operation))


def _description(operation: Operation) -> str:
    return operation.created_by.rpartition("\0")[2]
