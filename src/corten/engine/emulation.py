"""Which platforms' programs run on this machine: its own, what its kernel runs besides, what an emulator runs.

Asked anew each time: an emulator may be registered (binfmt_misc) or go while the daemon runs.
"""

import asyncio
import functools
import os

from corten.base.errors import Unsupported
from corten.linux import binfmt
from corten.oci.platform import Platform, host_platform

_NATIVE = {"x86_64": (binfmt.runs_386, Platform("linux", "386"))}
_VARIANTS = {"arm": ("v7", "v6", "v5")}


@functools.cache
def _beside() -> tuple[Platform, ...]:
    """What the kernel runs without help besides the machine's own."""
    runs, platform = _NATIVE.get(os.uname().machine, (None, None))
    return (platform,) if runs and platform and runs() else ()


def _emulated() -> list[str]:
    entries = binfmt.interpreters()
    own = {host_platform().architecture, *(one.architecture for one in _beside())}
    found = {name: binfmt.interpreted(name, entries) for name in binfmt.ARCHITECTURES if name not in own}
    return [name for name, flags in found.items() if flags is not None and "F" in flags]


def _platforms() -> list[Platform]:
    emulated = [Platform("linux", name, variant) for name in _emulated() for variant in _VARIANTS.get(name, ("",))]
    return [host_platform(), *_beside(), *emulated]


async def platforms() -> list[Platform]:
    """All whose programs run in any image, the machine's own first."""
    return await asyncio.to_thread(_platforms)


async def check(platform: Platform | None) -> None:
    """Raise Unsupported when a program of a platform cannot run here."""
    if platform is None or platform.architecture == host_platform().architecture:
        return
    if not await asyncio.to_thread(_runs, platform.architecture):
        raise Unsupported(
            f"a program of {platform} cannot run on this {host_platform()} machine: no emulator for it is registered "
            "with the kernel (binfmt_misc; Debian's qemu-user-static registers some)")


def _runs(architecture: str) -> bool:
    if any(one.architecture == architecture for one in _beside()):
        return True
    known = architecture in binfmt.ARCHITECTURES
    return not known or binfmt.interpreted(architecture, binfmt.interpreters()) is not None
