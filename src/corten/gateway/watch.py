"""What changes without anybody telling: files that documents name, certificates that end, a log that grows.

And what Envoy could not be told when it changed, as it was being started again or did not answer.
"""

import asyncio
import os
from typing import TYPE_CHECKING

from corten.base.errors import Error, InvalidArgument
from corten.base.files import read_bytes
from corten.gateway.audit import rotate

if TYPE_CHECKING:
    from corten.gateway.gateway import Gateway

EVERY_S = 1.0
RENEW_EVERY_S = 12 * 3600
AGAIN_S = 10.0  # what Envoy could not be told is tried again after so long


class Watch:
    """Looks once a second, at files' times only."""

    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway
        self._seen: dict[str, tuple[int, int]] = {}
        self._task: asyncio.Task[None] | None = None

    def read(self, path: str) -> str:
        """A file that a document names; watched from now on. Raises InvalidArgument."""
        if not os.path.isabs(path):
            raise InvalidArgument(f"{path}: a file is named by its absolute path")
        try:
            stat = os.stat(path)
            text = read_bytes(path).decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidArgument(f"{path}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None
        self._seen[path] = stat.st_mtime_ns, stat.st_ino
        return text

    def forget(self) -> None:
        """All files are about to be read again."""
        self._seen.clear()

    def start(self) -> None:
        """From now on; for a running loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def stop(self) -> None:
        """No more."""
        if self._task:
            self._task.cancel()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        renew, again = loop.time() + RENEW_EVERY_S, 0.0
        while True:
            await asyncio.sleep(EVERY_S)
            behind = self._gateway.behind and loop.time() > again
            if behind or self._changed() or self._gateway.mesh.identities.due() or loop.time() > renew:
                again = loop.time() + AGAIN_S
                renew = loop.time() + RENEW_EVERY_S
                await self._gateway.refresh()
            if self._gateway.envoy.pid:
                try:
                    await rotate(self._gateway.place.audit, self._gateway.envoy.admin)
                except (Error, OSError):
                    continue  # Envoy is being started again; the next look will do

    def _changed(self) -> bool:
        for path, (mtime, inode) in self._seen.items():
            try:
                stat = os.stat(path)
            except OSError:
                continue  # being replaced: what was read holds on
            if (stat.st_mtime_ns, stat.st_ino) != (mtime, inode):
                return True
        return False
