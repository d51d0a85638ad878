"""What the engine asks of a gateway, if it has one (corten/gateway/ is a layer above; the daemon puts it in)."""

from typing import Protocol

from corten.base.errors import Unsupported
from corten.engine.records import ContainerRecord

COMPOSE = "com.docker.compose."
PREFIX = "corten.gateway."
PREFIXES = (PREFIX, "corten.trust", "corten.allow")  # what only the one who makes a container may say


class Gateway(Protocol):
    """Called by the verbs of containers, with the container's lock held."""

    async def open(self) -> None:
        """The engine is open."""

    async def close(self, resting: bool) -> None:
        """The engine closes; `resting`: no container runs."""

    def check(self, record: ContainerRecord) -> None:
        """A container is being made. Raises InvalidArgument."""

    async def join(self, record: ContainerRecord, netns_fd: int) -> None:
        """Its network (namespace `netns_fd`) is there, its program not yet. What this raises fails the start."""

    def joined(self, record: ContainerRecord) -> None:
        """Its start is over, well or not."""

    async def leave(self, record: ContainerRecord) -> None:
        """It is about to be stopped, or has ended."""

    def check_connect(self, network: str, container: str) -> None:
        """A container is to be connected to a network. Raises Conflict."""

    async def moved(self, container: str) -> None:
        """It has been connected to a network, or taken off one."""


class NoGateway:
    """An engine without one: labels that ask for it are an error."""

    async def open(self) -> None:
        """Nothing."""

    async def close(self, resting: bool) -> None:
        """Nothing."""

    def check(self, record: ContainerRecord) -> None:
        """Raises Unsupported for labels that nobody would act on."""
        if any(name.startswith(PREFIX) for name in record.config.labels or {}):
            raise Unsupported(f"labels {PREFIX}*: this engine has no gateway")

    async def join(self, record: ContainerRecord, netns_fd: int) -> None:
        """Nothing."""

    def joined(self, record: ContainerRecord) -> None:
        """Nothing."""

    async def leave(self, record: ContainerRecord) -> None:
        """Nothing."""

    def check_connect(self, network: str, container: str) -> None:
        """Nothing."""

    async def moved(self, container: str) -> None:
        """Nothing."""
