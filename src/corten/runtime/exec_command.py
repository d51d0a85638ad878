"""`corten-oci exec`: the process document from a file or from options, then run it in the container and wait."""

from __future__ import annotations

import os

from corten.base.errors import Conflict, InvalidArgument
from corten.base.files import atomic_write, parse_json, read_bytes
from corten.linux import process
from corten.runtime import container
from corten.runtime.errors import StepFailed
from corten.runtime.exec import Target, spawn_exec
from corten.runtime.options import text, texts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corten.runtime.options import Options
    from corten.runtime.state import State

_FAILED = "exec failed: unable to start container process: "
_CAPABILITY_SETS = ("bounding", "effective", "permitted", "ambient")


def run(record: State, options: Options, words: list[str], preserve_fds: int) -> int:
    """Returns the exit code, 0 at once with --detach. Raises Conflict when the container does not run, StepFailed."""
    status = record.status
    if status == "paused" and not options.get("ignore_paused"):
        raise Conflict("cannot exec in a paused container (use --ignore-paused to override)")
    if status not in ("running", "created", "paused"):
        raise Conflict("cannot exec in a stopped container")
    bundle = record.load_bundle()
    document = _document(bundle.spec, options, words)
    console, detached = text(options, "console"), bool(options.get("detach"))
    if document.get("terminal") and detached and not console:
        raise InvalidArgument("cannot allocate tty if runtime will detach without setting console socket")
    target = Target(record.id, record.pid, process.pidfd_open(record.pid), bundle.spec)
    child = spawn_exec(
        target, document, (0, 1, 2), preserve_fds=preserve_fds, sub_cgroup=text(options, "cgroup").strip("/")
    )
    while child.wait() == "creating":
        pass
    if child.failure is None:
        if console:
            container.send_console(console, child.console)
            os.close(child.console)
            child.console = -1
        if options.get("pid_file"):
            atomic_write(os.path.abspath(text(options, "pid_file")), str(child.pid).encode(), 0o644)
        child.start()
        child.wait()
    if child.failure is not None:
        os.waitpid(child.pid, 0)
        raise StepFailed(child.failure.step, detail=f"{_FAILED}{child.failure}")
    if detached:
        return 0
    from corten.runtime import foreground

    return foreground.wait(child.pid, child.pidfd, child.console)


def _document(spec: dict[str, Any], options: Options, words: list[str]) -> dict[str, Any]:
    """--process as it is, or the container's own process with what the options change."""
    if options.get("process"):
        value = parse_json(read_bytes(text(options, "process")))
        if not isinstance(value, dict):
            raise InvalidArgument("process is not a JSON object")
        return value
    if not words:
        raise InvalidArgument("process args cannot be empty")
    document = {**spec["process"], "args": words, "terminal": bool(options.get("tty"))}
    document["env"] = [*(document.get("env") or ()), *texts(options, "env")]
    if options.get("cwd"):
        document["cwd"] = text(options, "cwd")
    if options.get("user"):
        uid, separator, gid = text(options, "user").partition(":")
        document["user"] = {"uid": _id(uid), "gid": _id(gid) if separator else 0}
    if texts(options, "gids"):
        document["user"] = {**document.get("user", {}), "additionalGids": [_id(gid) for gid in texts(options, "gids")]}
    if options.get("no_new_privs"):
        document["noNewPrivileges"] = True
    if options.get("apparmor"):
        document["apparmorProfile"] = text(options, "apparmor")
    if options.get("label"):
        document["selinuxLabel"] = text(options, "label")
    if texts(options, "cap"):
        sets = dict(document.get("capabilities") or {})
        for kind in _CAPABILITY_SETS:
            if kind != "ambient" or sets.get("inheritable"):
                sets[kind] = sorted({*(sets.get(kind) or ()), *texts(options, "cap")})
        document["capabilities"] = sets
    return document


def _id(word: str) -> int:
    if not (word.isascii() and word.isdigit()) or len(word) > 10:
        raise InvalidArgument(f"invalid user: {word!r}")
    return int(word)
