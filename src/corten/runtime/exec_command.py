"""`corten-oci exec`: the process document from a file or from options, then run it in the container and wait."""

from __future__ import annotations

import os

from corten.base.errors import Conflict, InvalidArgument
from corten.base.files import parse_json, read_bytes
from corten.linux import process, schedule
from corten.runtime.commands import check_terminal, hand_over, passed_on, told, trace, warn_of_unknown
from corten.runtime.errors import StepFailed
from corten.runtime.exec import Target, spawn_exec
from corten.runtime.options import BadUsage, text, texts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corten.runtime.command import Call
    from corten.runtime.options import Options

_FAILED = "exec failed: unable to start container process: "
_CAPABILITY_SETS = ("bounding", "effective", "permitted", "ambient")


def run(call: Call) -> int:
    """Returns the exit code, 0 at once with --detach. Raises Conflict when the container does not run, StepFailed."""
    record, options = call.load(), call.options
    status = record.status
    if status == "paused" and not options.get("ignore_paused"):
        raise Conflict("cannot exec in a paused container (use --ignore-paused to override)")
    if status not in ("running", "created", "paused"):
        raise Conflict("cannot exec in a stopped container")
    spec = record.load_bundle().spec
    spec["linux"] = {**(spec.get("linux") or {}), "cgroupsPath": record.cgroup}
    document = _document(spec, options, call.words[1:])
    warn_of_unknown(call, document)
    detached = bool(options.get("detach"))
    check_terminal(bool(document.get("terminal")), detached, text(options, "console"))
    environment: list[str] = []
    preserved = passed_on(call, environment)
    document["env"] = [*(document.get("env") or ()), *environment]
    target = Target(record.id, record.pid, process.pidfd_open(record.pid), spec, record.bundle)
    try:
        child = spawn_exec(
            target, document, (0, 1, 2), preserve_fds=preserved, sub_cgroups=_sub_cgroups(texts(options, "cgroup")),
            keyring=record.keyring,
        )
    except StepFailed as failure:
        raise told(failure, _FAILED) from None
    while child.wait() in ("creating", "born"):
        pass
    if child.failure is None:
        affinity = document.get("execCPUAffinity") or (spec["process"] or {}).get("execCPUAffinity") or {}
        initial = affinity.get("initial")
        if initial and call.debugging:
            mask = sum(1 << cpu for cpu in schedule.parse_list(initial))
            call.tell("debug", f"nsexec[{child.pid}]: affinity: {mask:#x}")
        trace(call, child, spec, "setns_init: about to exec")
        hand_over(call, child)
        child.start()
        child.wait()
    if child.failure is not None:
        os.waitpid(child.pid, 0)
        raise told(child.failure, _FAILED)
    if detached:
        return 0
    from corten.runtime import foreground

    return foreground.wait(child.pid, child.pidfd, child.console)


def _sub_cgroups(words: list[str]) -> dict[str, str]:
    """--cgroup: `path`, or `controller[,controller]:path` as often as needed. Raises InvalidArgument."""
    found: dict[str, str] = {}
    for word in words:
        controllers, colon, path = word.partition(":")
        if not colon:
            if len(words) > 1:
                raise InvalidArgument(f"invalid --cgroup argument: {word} (missing <controller>: prefix)")
            return {"": word}
        for controller in controllers.split(","):
            if not controller:
                raise InvalidArgument(f"invalid --cgroup argument: {word} (empty <controller> prefix)")
            if controller in found:
                raise InvalidArgument(
                    f"invalid --cgroup argument(s): controller {controller} specified multiple times"
                )
            found[controller] = path
    return found


def _document(spec: dict[str, Any], options: Options, words: list[str]) -> dict[str, Any]:
    """--process as it is, or the container's own process with what the options change."""
    if options.get("process"):
        value = parse_json(read_bytes(text(options, "process")))
        if not isinstance(value, dict):
            raise InvalidArgument("process is not a JSON object")
        return value
    if not words:
        raise InvalidArgument("exec args cannot be empty")
    document = {**spec["process"], "args": words, "terminal": bool(options.get("tty"))}
    document["env"] = [*(document.get("env") or ()), *texts(options, "env")]
    if options.get("cwd"):
        document["cwd"] = text(options, "cwd")
    if options.get("user"):
        uid, separator, gid = text(options, "user").partition(":")
        document["user"] = {**(document.get("user") or {}), "uid": _id(uid, "uid")}
        if separator:
            document["user"]["gid"] = _id(gid, "gid")
    if texts(options, "gids"):
        user = document.get("user") or {}
        groups = [*(user.get("additionalGids") or ()), *(_id(gid) for gid in texts(options, "gids"))]
        document["user"] = {**user, "additionalGids": groups}
    if "no_new_privs" in options:
        document["noNewPrivileges"] = bool(options["no_new_privs"])
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


def _id(word: str, kind: str = "") -> int:
    """A number of -u (`kind`: which), or of -g, which a wrong one makes a wrong call."""
    if word.isascii() and word.isdigit() and len(word) <= 10:
        return int(word)
    if kind:
        raise InvalidArgument(f'bad {kind}: parsing "{word}": invalid syntax')
    raise BadUsage(f'invalid value "{word}" for flag -g: parsing "{word}": invalid syntax')
