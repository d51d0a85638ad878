"""An exec in a container whose processes may trace it (exec.may_be_traced): born there with nothing to be had.

CAP_SYS_PTRACE in the host's user namespace overrides whatever a process does to hide, so there must be nothing to see
or to take. A forerunner, an interpreter of its own from a read-only mount and with an empty environment, does all that
needs power from outside of the container's pid namespace, where no process of the container's sees it: it joins the
rest, opens the terminal, becomes the user, confines itself. Then it has its sibling born inside, which waits for START
and executes. What that one has is the program's; its memory knows of this container alone.

The filter has to be in force before the birth, for installing it takes CAP_SYS_ADMIN. Where the filter refuses what
comes after, the sibling installs it, with no_new_privs in the place of the capability.
"""

from __future__ import annotations

import gc
import os
import sys

from corten.base import jsonio
from corten.linux import capabilities, cgroup, fd, namespaces, process, sealed, seccomp, signals, tty
from corten.linux.path import open_in_root
from corten.runtime import create, exec, init, program, sync
from corten.runtime.errors import from_exception

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corten.runtime.init import Init, Step
    from corten.runtime.plan import ExecPlan

# What the interpreter is told: where the package is, then the number of its end of the channel.
_COMMAND = "import sys; sys.path.insert(0, sys.argv[1]); from corten.runtime.forerunner import main; main()"
_PASSED = ("die_with_parent", "keyring", "preserve_fds", "sub_cgroups")  # of the plan: what is not worked out anew
# What is called between the confinement and the execve, with the arguments that a rule might look at.
_LATE_CALLS: dict[str, tuple[int, ...]] = {
    "clone": (namespaces.SIBLING,), "setsid": (), "ioctl": (0, tty.TIOCSCTTY), "getsockname": (), "sendmsg": (),
    "read": (), "write": (), "close": (), "openat2": (), "fstat": (), "execve": (), "exit_group": (), "brk": (),
    "mmap": (), "munmap": (), "capset": (), "prctl": (),
}


# --- the parent's half


def spawn(
    container: exec.Target, document: dict[str, Any], plan: ExecPlan, stdio: tuple[int, int, int]
) -> create.Child:
    """Send a forerunner. The child has a pid once it is born, as a launcher's; `forerunner` is a pidfd to be reaped.

    Raises OSError.
    """
    order = os.memfd_create("order", os.MFD_CLOEXEC)
    ours, theirs = sync.make_pair()
    try:
        os.write(order, jsonio.dumps({
            "id": container.id, "pid": container.pid, "bundle": container.bundle, "spec": container.spec,
            "process": document, **{name: getattr(plan, name) for name in _PASSED},
        }).encode())
        pid, pidfd = namespaces.clone3(0)
        if pid == 0:
            _become_forerunner([theirs, container.pidfd, order], stdio, 3 + plan.preserve_fds)
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
        os.close(order)
    os.set_blocking(ours, False)
    child = create.Child(container.id, 0, -1, ours)
    child.forerunner = pidfd
    child.agent = exec.agent(container)
    return child


def await_birth(child: create.Child) -> create.Child:
    """For a parent that has nothing else to do. Raises StepFailed when there is no birth."""
    state = child.wait()
    os.waitid(os.P_PIDFD, child.forerunner, os.WEXITED)
    os.close(child.forerunner)
    if state != create.BORN:
        child.close()
        raise child.failure or unborn()
    return child


def unborn() -> Exception:
    """What is said of a forerunner that was killed."""
    return from_exception("start the process", RuntimeError("it ended before it was ready"))


def _become_forerunner(kept: list[int], stdio: tuple[int, int, int], first: int) -> None:
    try:
        gc.disable()  # a collected object of the parent's would close a descriptor number that is ours now
        numbers = fd.arrange(stdio, kept, first)
        kept = numbers
        for number in numbers:
            os.set_inheritable(number, True)
        signals.reset()
        place = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        sealed.execute([sys.executable, "-IS", "-c", _COMMAND, place, str(numbers[0])], {})
    except BaseException as error:  # nothing may unwind into the parent's code
        sync.send(kept[0], sync.pack_failure(from_exception("start the process", error)))
    finally:
        os._exit(255)


# --- the forerunner


def main() -> None:
    """`COMMAND PACKAGE_ROOT CHANNEL`; the next two descriptors are the init's pidfd and the order."""
    process.set_dumpable(False)
    channel = int(sys.argv[2])
    pidfd, order = channel + 1, channel + 2
    read: Any = jsonio.loads(os.pread(order, os.fstat(order).st_size, 0))
    os.close(order)
    container = exec.Target(read["id"], read["pid"], pidfd, read["spec"], read["bundle"])
    plan = exec.plan_of(container, read["process"])
    for name in _PASSED:
        setattr(plan, name, read[name])
    me = init.Init(plan, channel, (0, 1, 2))  # type: ignore[arg-type]
    init.run(me, (
        init.STEPS[0],
        ("join the control group", lambda _: _join_group(container, plan)),
        *_STEPS,
    ))


def _join_group(container: exec.Target, plan: ExecPlan) -> None:
    """The v2 one, in which others are born; those of v1 are joined with the namespaces."""
    group = exec.birthplace(container, plan)
    try:
        if group >= 0:
            _enter(group)
    except OSError:
        if "" in plan.sub_cgroups:
            raise
        _enter(cgroup.open_unified(cgroup.path_of(container.pid)))  # a group that hands controllers down takes none


def _enter(group: int) -> None:
    descriptor = os.open("cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=group)
    os.write(descriptor, b"0")
    os.close(descriptor)
    os.close(group)


def _enter_pids(init: Init) -> None:
    """From here on what we make is born inside; we stay where we are."""
    if init.plan.joined & namespaces.CLONE_NEWPID:  # type: ignore[attr-defined]
        namespaces.setns(init.plan.container, namespaces.CLONE_NEWPID)


def _open_console(init: Init) -> None:
    """As an init's, but that the terminal becomes the controlling one of our sibling's session."""
    if not init.plan.program.terminal:
        return
    devpts = open_in_root(os.open("/", os.O_PATH | os.O_CLOEXEC), "/dev/pts", os.O_RDONLY | os.O_DIRECTORY)
    init.master, init.console = tty.open_pair(devpts)
    rows, columns = init.plan.program.console_size
    if rows and columns:
        tty.set_size(init.master, rows, columns)
    for number in (0, 1, 2):
        os.dup2(init.console, number)


def _close_all(init: Init) -> None:
    """Stdio, what is passed on, the channel, and behind that the master, which goes to the parent."""
    last = init.channel
    if init.master >= 0:
        last += 1
        os.dup2(init.master, last, inheritable=False)
        init.master = last
    process.close_range(last + 1)
    for descriptor in range(3 + init.plan.preserve_fds, init.channel):
        os.close(descriptor)


def _confine(init: Init) -> None:
    one = init.plan.program
    init.confined = not one.no_new_privs and _lets_us_go_on(one)
    if init.confined:
        program.confine(one, lambda _listener: None)
    else:
        one.no_new_privs = True
        process.set_no_new_privs()
        capabilities.apply(one.capabilities)


def _lets_us_go_on(one: program.Program) -> bool:
    if one.filter_flags & seccomp.NEW_LISTENER:
        return False  # the agent is to be told by the one that stays
    return not one.filter or seccomp.lets_through(one.filter, _LATE_CALLS)


def _bear(init: Init) -> None:
    """The last of us; the first of the program's process is `_live`, when we have told of it and are gone."""
    gone, here = os.pipe2(os.O_CLOEXEC)
    pid, pidfd = namespaces.clone_sibling()
    if pid == 0:
        os.close(here)
        os.read(gone, 1)
        os.close(gone)
        _live(init)
    sync.send(init.channel, sync.BORN, pidfd)
    sync.send(init.channel, sync.READY, init.master)
    os._exit(0)


_STEPS: tuple[Step, ...] = (
    *init.EXEC_STEPS[1:4],
    *init.EXEC_STEPS[4:6],
    ("enter the pid namespace", _enter_pids),
    ("open the console", _open_console),
    *init.EXEC_STEPS[7:8],
    ("become the user", init.become_user),
    ("close the descriptors", _close_all),
    ("confine the program", _confine),
    ("make the process", _bear),
)


# --- the program's process, in sight of the container


def _live(init: Init) -> None:
    """Few and plain system calls: the filter may be in force. Nothing here has more power than the program."""
    step = "start the process"
    try:
        if init.master >= 0:
            os.close(init.master)
        os.setsid()
        if init.plan.program.terminal:
            tty.make_controlling(0)
        program.refuse_magic_links(init.plan.program, init.candidates)
        if os.read(init.channel, 1) != sync.START:
            os._exit(125)
        if not init.confined:
            step = "confine the program"
            program.confine(init.plan.program, lambda listener: sync.tell_listener(init.channel, listener))
        program.execute(init.plan.program, init.image, init.candidates)
    except BaseException as error:
        os.write(init.channel, sync.pack_failure(from_exception(step, error)))
    finally:
        os._exit(255)
