"""Solves vertices: out of the cache when the same work was done before, else by doing it.

One vertex after the other. Two builds that ask for the same work at the same time both do it.
"""

from __future__ import annotations

import asyncio

from corten.build.graph import Vertex
from corten.build.ops import Backend, Observer
from corten.build.stage import BuildImage


class Solver:
    """One build's view of the cache. use_cache False: nothing is looked up, results are remembered all the same."""

    __slots__ = ("backend", "use_cache")

    def __init__(self, backend: Backend, use_cache: bool) -> None:
        self.backend, self.use_cache = backend, use_cache

    async def solve(self, vertex: Vertex, observer: Observer) -> BuildImage:
        """The image the vertex yields; sets `vertex.image`. Raises whatever the operation raises."""
        if vertex.image is not None:
            return vertex.image
        assert vertex.parent is not None and vertex.operation is not None
        parent = await self.solve(vertex.parent, observer)
        if self.use_cache and (found := self.backend.recall(vertex.digest)) is not None:
            observer.cached()
            vertex.image = found
            return found
        operation = vertex.operation
        layer = await operation.execute(self.backend, parent, observer)
        await asyncio.sleep(0)  # a step that runs nothing gives others their turn too
        document = operation.commit(operation.created_by, layer)
        layers = [*parent.layers, layer.name] if layer else parent.layers
        image = self.backend.register(document, layers, parent.id)
        self.backend.remember(vertex.digest, image)
        vertex.image = image
        return image
