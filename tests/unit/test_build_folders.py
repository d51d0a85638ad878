"""The folders of clients that are kept: two builds that end at the same time take each away once."""

import asyncio

from corten.engine.build_folders import Folder, Folders


class Slow(Folder):
    removed = 0

    async def remove(self) -> None:
        self.removed += 1
        await asyncio.sleep(0)


def test_what_two_builds_shrink_at_once_goes_once() -> None:
    async def shrink() -> list[int]:
        folders = Folders("/nowhere")
        kept = {f"key{number}": Slow("/nowhere/x") for number in range(5)}
        kept["key3"].users = 1
        folders._kept.update(kept)
        folders._locks.update({key: asyncio.Lock() for key in kept})
        await asyncio.gather(folders.prune(), folders.prune(), folders.prune())
        assert list(folders._kept) == ["key3"] == list(folders._locks)
        return [folder.removed for folder in kept.values()]

    assert asyncio.run(shrink()) == [1, 1, 1, 0, 1]
