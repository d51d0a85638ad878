"""Another process in a container that runs: join its namespaces and cgroup, then become the program.

The child is a direct child of the caller, which can wait for it: the pid namespace is entered in the caller around
the clone, all others in the child through the container's pidfd, in one setns.
"""

from __future__ import annotations

import errno
import os

from corten.base.errors import InvalidArgument
from corten.linux import cgroup, namespaces, seccomp, vfork
from corten.oci.runtime_spec import VERSION
from corten.runtime import init, joined_user, sync
from corten.runtime.bundle import cgroup_path
from corten.runtime.create import Child
from corten.runtime.plan import ExecPlan
from corten.runtime.seccomp_agent import agent_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from corten.linux.vfork import Lender
    from corten.runtime.seccomp_agent import Agent


class Target:
    """A running container: its id, its init's pid and pidfd, its config.json, and the folder of its bundle."""

    __slots__ = ("bundle", "id", "pid", "pidfd", "spec")

    def __init__(self, id: str, pid: int, pidfd: int, spec: dict[str, Any], bundle: str = "") -> None:
        self.bundle = bundle
        self.id = id
        self.pid = pid
        self.pidfd = pidfd
        self.spec = spec


_own_pid_namespace = (-1, -1)  # of which process, and the descriptor


def spawn_exec(
    container: Target,
    process: dict[str, Any],
    stdio: tuple[int, int, int],
    *,
    die_with_parent: bool = True,
    preserve_fds: int = 0,
    sub_cgroups: dict[str, str] | None = None,
    keyring: bool = True,
) -> Child:
    """Start `process` (as in config.json) in a container; the messages are the same as for an init.

    `sub_cgroups` are existing groups below the container's, by v1 controller, "" for all others and for v2; `keyring`:
    join the container's session keyring. Raises InvalidArgument, Unsupported, OSError (ESRCH: the container is gone).
    """
    plan = plan_of(container, process)
    plan.die_with_parent = die_with_parent
    plan.preserve_fds = preserve_fds
    plan.sub_cgroups = _check_below(sub_cgroups or {})
    if not keyring:
        plan.keyring = ""
    if may_be_traced(container.spec):
        from corten.runtime import forerunner

        return forerunner.await_birth(forerunner.spawn(container, process, plan, stdio))
    ours, theirs = sync.make_pair()

    def clone(group: int) -> tuple[int, int]:
        if plan.as_user:
            wanted = plan.joined & (namespaces.CLONE_NEWUSER | namespaces.CLONE_NEWPID)
            own = group if plan.cgroup else -1
            pid, pidfd = joined_user.clone(lambda: namespaces.setns(plan.container, wanted), 0, own)
        else:
            pid, pidfd = namespaces.clone3(0, group)
        if pid == 0:
            init.main_exec(plan, theirs, stdio)
        return pid, pidfd

    try:
        pid, pidfd = _clone(container, plan, clone)
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    os.set_blocking(ours, False)
    child = Child(container.id, pid, pidfd, ours)
    child.agent = agent(container)
    return child


def agent(container: Target) -> Agent | None:
    """Whom an exec's seccomp filter notifies."""
    return agent_of(container.spec, {
        "ociVersion": VERSION, "id": container.id, "status": "running", "pid": container.pid,
        "bundle": container.bundle,
    })


def lend(lender: Lender, container: Target, process: dict[str, Any], fds: list[int]) -> bool:
    """The same for a parent that waits elsewhere: the child, our sibling, runs in our memory until it executes.

    `fds`: the child's end of the channel, then its stdio; they are closed here as soon as the child has its own.
    False: it was killed in the middle of something, and our memory is not to be lent again. Where that cannot be done
    for a container there is no child. Raises as `spawn_exec`.
    """
    plan = plan_of(container, process)
    if plan.joined & namespaces.CLONE_NEWTIME or plan.program.filter_flags & seccomp.NEW_LISTENER:
        return True  # setns(2) refuses the one to whoever shares memory; the other needs somebody who looks after it
    if may_be_traced(container.spec):
        return True
    plan.lent = True
    channel, stdin, stdout, stderr = fds

    def clone(group: int) -> tuple[int, int]:
        made = lender.clone(
            vfork.CLONE_PARENT, group, lambda: init.main_exec(plan, channel, (stdin, stdout, stderr))
        )
        while fds:
            os.close(fds.pop(0))
        return made

    _pid, pidfd = _clone(container, plan, clone)
    os.close(pidfd)
    return plan.left or lender.ended


def may_be_traced(spec: dict[str, Any]) -> bool:
    """Whether others in a container's pid namespace may trace an exec on its way in, undumpable or not.

    CAP_SYS_PTRACE overrides that, but only in the user namespace in which the program was executed, ptrace(2): that of
    the host is out of reach for a container with one of its own. In a pid namespace that was joined others have a word.
    """
    linux, process = spec.get("linux") or {}, spec.get("process") or {}
    kinds = {entry.get("type"): entry.get("path") for entry in linux.get("namespaces") or ()}
    if "user" in kinds:
        return False
    return bool(kinds.get("pid")) or any(
        "CAP_SYS_PTRACE" in (names or ()) for names in (process.get("capabilities") or {}).values()
    )


def plan_of(container: Target, process: dict[str, Any]) -> ExecPlan:
    plan = ExecPlan(container.id, container.spec, process, container.pidfd, container.pid)
    plan.cgroup = cgroup_path(container.id, container.spec)
    if plan.as_user and not cgroup.exists(plan.cgroup):
        plan.cgroup = ""  # the container was made without
    return plan


def _check_below(parts: dict[str, str]) -> dict[str, str]:
    known = cgroup.hierarchies().v1
    for controller, part in parts.items():
        if ".." in part.split("/"):
            raise InvalidArgument(f"bad sub cgroup path: {part}")
        if controller and controller not in known:
            raise InvalidArgument(f"unknown controller {controller} in SubCgroupPaths")
    return {controller: part.strip("/") for controller, part in parts.items()}


def birthplace(container: Target, plan: ExecPlan) -> int:
    """The v2 group the process is born in: the one asked for, else the container's, else that of its init.

    An init may have moved itself and all into a group below, or elsewhere, and the container's own be gone.
    """
    part = plan.sub_cgroups.get("", "")
    if part:
        path = f"{plan.cgroup}/{part}"
        group = cgroup.open_unified(path)
        if group < 0 and cgroup.hierarchies().unified:
            raise OSError(errno.ENOENT, f"adding pid to cgroups: {os.strerror(errno.ENOENT)}", path)
        return group
    group = cgroup.open_unified(plan.cgroup)
    if group < 0 and not cgroup.hierarchies().v1:
        group = cgroup.open_unified(cgroup.path_of(container.pid))
    return group


def _clone(container: Target, plan: ExecPlan, clone: Callable[[int], tuple[int, int]]) -> tuple[int, int]:
    group = birthplace(container, plan)
    try:
        try:
            return _in_pid_namespace(plan, clone, group)
        except OSError as error:
            if error.errno != errno.EBUSY or group < 0 or "" in plan.sub_cgroups:
                raise  # else: a v2 group that hands controllers down takes no process itself
            os.close(group)
            group = cgroup.open_unified(cgroup.path_of(container.pid))
            return _in_pid_namespace(plan, clone, group)
    finally:
        if group >= 0:
            os.close(group)


def _in_pid_namespace(plan: ExecPlan, clone: Callable[[int], tuple[int, int]], group: int) -> tuple[int, int]:
    """Clone while our children are born in the container's pid namespace, if it has one of its own."""
    global _own_pid_namespace
    own = plan.joined & namespaces.CLONE_NEWPID and not plan.as_user
    if own:
        if _own_pid_namespace[0] != os.getpid():
            _own_pid_namespace = os.getpid(), namespaces.open_own("pid")
        namespaces.setns(plan.container, namespaces.CLONE_NEWPID)
    try:
        return clone(group)
    finally:
        if own:
            namespaces.setns(_own_pid_namespace[1], namespaces.CLONE_NEWPID)
