"""What is asked of one build, and how it is told: in the words of docker's classic builder.

Other front ends have tellers of their own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from corten.base.ids import short_id
from corten.build.instructions import Stage


class Options:
    """What the caller asks of one build."""

    __slots__ = ("arguments", "buildkit", "entitlements", "epoch", "force_remove", "labels", "named_folders",
                 "named_images", "platform", "platforms", "pull", "quiet", "remove", "target", "uncached_stages",
                 "use_cache")

    def __init__(self) -> None:
        self.arguments: dict[str, str | None] = {}
        self.labels: dict[str, str] = {}
        self.target = ""
        self.platform = ""
        self.platforms: list[str] = []  # when several are built for at once; `platform` is then one of them
        self.use_cache, self.pull, self.quiet = True, False, False
        self.uncached_stages: frozenset[str] = frozenset()  # names, lower case, of stages that do without the cache
        self.remove, self.force_remove = True, False
        self.named_images: dict[str, str] = {}  # contexts besides the main one that are images: name -> reference or id
        self.named_folders: frozenset[str] = frozenset()  # and those that are files
        self.entitlements: frozenset[str] = frozenset()  # "network.host", when the caller allows it
        self.epoch: int | None = None  # SOURCE_DATE_EPOCH: the time of all that is made, in seconds
        self.buildkit = False  # asked for by BuildKit's protocol: flags that are its own are honoured


QUIET_LINES = 2000  # what a quiet build that fails shows at most


class Teller:
    """Writes messages; is the solver's observer. `say` and `write` take what goes to the client."""

    __slots__ = ("_held", "_options", "_write", "containers")

    def __init__(self, write: Callable[[dict[str, Any]], None], options: Options) -> None:
        self._write, self._options = write, options
        self.containers: list[str] = []
        self._held: deque[str] = deque(maxlen=QUIET_LINES)

    def say(self, text: str) -> None:
        """To the client at once; a quiet build keeps the end of it for `confess`."""
        if self._options.quiet:
            self._held.append(text)
        else:
            self._write({"stream": text})

    def confess(self) -> None:
        """A quiet build has failed: say what it has kept."""
        for text in self._held:
            self._write({"stream": text})
        self._held.clear()

    def aux(self, image_id: str) -> None:
        if not self._options.quiet:
            self._write({"aux": {"ID": image_id}})

    def stage(self, index: int, stage: Stage, total: int, platform: str) -> Teller:
        """A stage begins, one of `total`, for a platform; who tells of it."""
        return self

    def step(self, number: int, total: int, code: str) -> None:
        """A step begins."""
        self.say(f"Step {number}/{total} : {code}")
        self.say("\n")

    def failed(self, error: BaseException) -> None:
        """The stage ends here."""

    def step_done(self, image_id: str) -> None:
        """It has ended, with this image."""
        self.say(f" ---> {short_id(image_id)}\n")

    def built(self, image_id: str) -> None:
        """The whole has ended well; all that a quiet build tells."""
        if self._options.quiet:
            self._write({"stream": f"{image_id}\n"})
        else:
            self.say(f"Successfully built {short_id(image_id)}\n")

    def tagged(self, name: str) -> None:
        """The image has been given a name."""
        self.say(f"Successfully tagged {name}\n")

    def running(self, container_id: str) -> None:
        self.containers.append(container_id)
        self.say(f" ---> Running in {short_id(container_id)}\n")

    def output(self, stream: int, data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        self.say(f"\x1b[91m{text}\x1b[0m" if stream == 2 else text)

    def cached(self) -> None:
        self.say(" ---> Using cache\n")

    def removed(self) -> None:
        for container_id in self.containers:
            self.say(f" ---> Removed intermediate container {short_id(container_id)}\n")
        self.containers.clear()
