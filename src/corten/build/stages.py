"""A plan's stages as tasks: each is built once, when somebody first asks for it, and all who ask get its image.

Independent stages are under way at the same time; a stage nobody asks for is never built.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping

from corten.base.errors import InvalidArgument
from corten.build.instructions import Command, Plan
from corten.build.stage import BuildImage
from corten.build.variables import Expander

_FROM = re.compile(r"(?:^|,)\s*from=([^,]+)", re.IGNORECASE)


class Stages:
    """`make(index)` builds a stage; it may ask `image` for earlier ones. `close` when done: nothing runs after it."""

    def __init__(self, make: Callable[[int], Awaitable[BuildImage]]) -> None:
        self._make = make
        self._tasks: dict[int, asyncio.Task[BuildImage]] = {}

    async def build(self, last: int, needed: Iterable[int], *, one_by_one: bool) -> BuildImage:
        """The image of stage `last`; `needed` are begun together with it, or all up to it after one another.

        Raises what the first stage to fail raises.
        """
        if one_by_one:
            for index in range(last + 1):
                image = await self.image(index)
            return image
        tasks = {self._begin(index) for index in {*needed, last}}
        while not self._tasks[last].done():
            await asyncio.wait({task for task in tasks if not task.done()}, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
        return self._tasks[last].result()

    async def image(self, index: int) -> BuildImage:
        """The image of a stage, which is begun if it was not. Raises what it raises."""
        return await asyncio.shield(self._begin(index))

    def _begin(self, index: int) -> asyncio.Task[BuildImage]:
        if index not in self._tasks:
            async def run() -> BuildImage:
                return await self._make(index)
            self._tasks[index] = asyncio.create_task(run())
        return self._tasks[index]

    async def close(self) -> None:
        """End what still runs, and wait until it has cleaned up."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


def needed_stages(plan: Plan, arguments: Mapping[str, str],
                  replaced: Callable[[str], bool] = lambda name: False) -> list[int]:
    """The stages that the last one is made of, as far as their names can be told before anything is built. Pure.

    `arguments`: what FROM may use; `replaced`: whether a stage of that name is given from
    outside. What is missed here is begun when it is asked for.
    """
    words = Expander(arguments, plan.escape)
    found: set[int] = set()
    waiting = [len(plan.stages) - 1]
    while waiting:
        index = waiting.pop()
        if index in found:
            continue
        found.add(index)
        stage = plan.stages[index]
        if stage.name and replaced(stage.name):
            continue
        names = [stage.base, *(name for command in stage.commands for name in _names(command))]
        for at, name in enumerate(names):
            try:
                word = words.word(name) if "$" in name else name
            except InvalidArgument:
                continue
            waiting += _earlier(plan, index, word, numbered=at > 0)
    return sorted(found)


def _names(command: Command) -> list[str]:
    mounts = (found[1].strip("\"' ") for text in command.flags.get("mount", ()) if (found := _FROM.search(text)))
    return [*command.flags.get("from", ()), *mounts]


def _earlier(plan: Plan, before: int, name: str, numbered: bool) -> list[int]:
    for index in range(before - 1, -1, -1):
        if plan.stages[index].name == name.lower():
            return [index]
    return [int(name)] if numbered and re.fullmatch(r"[0-9]{1,4}", name, re.ASCII) and int(name) < before else []
