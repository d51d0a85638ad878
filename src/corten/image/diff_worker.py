"""The process that makes a tar of a tree: confined to read that tree, it writes to one descriptor. Standard library.

Question: {"root": folder, "out": descriptor, "whiteouts": bool, "stubs": [path], "lowers": [O_PATH descriptor],
"cpu_seconds", "memory_bytes"}, and for a layer of what makes one tree differ from another {"tree", "base"}: their
paths below the root. Answer: {"size", "entries"}. Paths are latin-1.
"""

import os

from corten.image.confine import READER_CAPABILITIES, SYS_ADMIN, enter
from corten.image.pack import Packer
from corten.image.worker_side import serve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def _work(question: "dict[str, Any]") -> "dict[str, Any]":
    # reading trusted.overlay.* takes CAP_SYS_ADMIN; Landlock and seccomp keep it from anything else
    enter(str(question["root"]), write=False, cpu_seconds=int(question["cpu_seconds"]),
          memory_bytes=int(question["memory_bytes"]), capabilities=(*READER_CAPABILITIES, SYS_ADMIN))
    packer = Packer(
        int(question["out"]), whiteouts=bool(question["whiteouts"]), lowers=[int(fd) for fd in question["lowers"]],
        stubs=frozenset(str(path).encode("latin-1") for path in question["stubs"]),
    )
    if question.get("tree"):
        packer.run_differences(*(os.open(f"/{question[name]}", _FOLDER) for name in ("tree", "base")))
    else:
        packer.run(os.open("/", _FOLDER))
    return {"size": packer.size, "entries": packer.entries}


def main() -> None:
    """Entry point of the process."""
    serve(_work)
