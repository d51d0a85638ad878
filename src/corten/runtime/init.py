"""What a container is: the steps its first process takes between clone and execve, in the kernel's order.

The process is born in its new namespaces, a copy of the small process that made it. It has the descriptors of that
process, its memory, all capabilities, and the whole host before its eyes. Step by step it gives these up: `STEPS` is
the list, and each entry is a short function. What it needs was worked out before the clone (plan.py); it imports
nothing and allocates little. When a step fails, its name, the system call and the path go to the parent as one message
(sync.py), and the process ends.

An exec in a running container takes `EXEC_STEPS`: it joins what `STEPS` made, and ends the same way.
"""

import _signal  # type: ignore[import-not-found]
import _socket
import gc
import posix

from corten.linux import cgroup, fd, keyring, namespaces, process, schedule, signals, tty, user
from corten.linux.image import Image
from corten.linux.path import open_in_root
from corten.runtime import borrowed_mounts, hooks, program, reaper, rootfs, sources, state, sync
from corten.runtime.errors import from_exception
from corten.runtime.plan import ExecPlan, Plan, sysctl_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


_ENDING = (1, 2, 3, 15)  # HUP INT QUIT TERM: what ends a container that has not been started


class Init:
    """The state of the one process that runs this page: its plan and the descriptors it has kept."""

    __slots__ = (
        "asked", "candidates", "channel", "confined", "console", "devpts", "image", "in_cwd", "listener", "master",
        "plan", "proc", "root", "stdio",
    )

    def __init__(self, plan: Plan, channel: int, stdio: tuple[int, int, int]) -> None:
        self.plan = plan
        self.channel = channel
        self.stdio = stdio
        self.listener = plan.listener
        self.proc = -1  # the host's /proc, opened before anything of the container's could stand in its place
        self.root = -1  # the container's root folder
        self.devpts = -1  # the container's own devpts
        self.master = self.console = -1
        self.asked: sources.Asked  # the mounts' sources that the parent opens
        self.candidates: list[str] = []
        self.in_cwd = self.confined = False
        self.image = Image([], {})


# --- the beginning: cut the ties with the process that made us


def _let_go(init: Init) -> None:
    """Keep stdio, the channel and what is passed on; nobody in the container may look into this process's memory."""
    gc.disable()  # a collected object of the parent's would close a descriptor number that is ours now
    process.set_dumpable(init.plan.unprivileged)  # an unprivileged parent could not map our users otherwise
    kept = [init.channel] + [extra for extra in (init.listener, init.plan.container) if extra >= 0]
    numbers = fd.arrange(init.stdio, kept, 3 + init.plan.preserve_fds)
    init.channel = numbers.pop(0)
    if init.plan.container >= 0:
        init.plan.container = numbers.pop()
    if init.listener >= 0:
        init.listener = numbers.pop()
    signals.reset()


def _tie_to_parent(init: Init) -> None:
    """Until the execve this process dies with its parent, and says who it is where that has not cloned it itself."""
    if init.plan.die_with_parent:
        process.set_pdeathsig(_signal.SIGKILL)
    if init.plan.lent:
        pidfd = process.pidfd_open(posix.getpid())
        sync.send(init.channel, sync.BORN, pidfd)
        posix.close(pidfd)
    posix.setsid()
    init.proc = fd.open_proc()


# --- namespaces and the control group


def _enter_cgroup(init: Init) -> None:
    """Join the group in every v1 hierarchy (we were born in the v2 one); its namespace begins where we stand then."""
    sync.expect(init.channel, sync.GO)  # the parent has made the groups meanwhile; for a user namespace, all the rest
    process.set_dumpable(False)
    if init.plan.user_namespace:
        user.become(0, 0, [])
    else:
        cgroup.join(init.plan.cgroup, unified=False)
    schedule.forget_affinity()
    if init.plan.new_cgroup_namespace:
        namespaces.unshare(namespaces.CLONE_NEWCGROUP)


def _join_namespaces(init: Init) -> None:
    """Namespaces that exist already, each checked to be of the kind it is said to be."""
    for kind, flag, path in init.plan.joins:
        descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            namespaces.check_type(descriptor, kind, path)
            namespaces.setns(descriptor, flag)
        finally:
            posix.close(descriptor)


def _make_keyring(init: Init) -> None:
    """Keys of the host's session stay there. In a user namespace most users are `other` to the keyring."""
    inside = init.plan.user_namespace
    keyring.join_session(init.plan.keyring, keyring.KEY_OTH_SEARCH if inside else keyring.KEY_USR_SEARCH)


def _name_host(init: Init) -> None:
    if init.plan.hostname:
        user.set_hostname(init.plan.hostname)
    if init.plan.domainname:
        user.set_domainname(init.plan.domainname)


def _raise_loopback(init: Init) -> None:
    """A new network has its `lo` down; the engine, which brings its networks, sees to that itself."""
    if init.plan.loopback:
        namespaces.raise_loopback()


# --- the file system: rootfs.py has the details


def _run_host_hooks(init: Init) -> None:
    """prestart and createRuntime run in the runtime's namespaces, so the parent runs them while we wait."""
    if init.plan.hooks.get("prestart") or init.plan.hooks.get("createRuntime"):
        sync.send(init.channel, sync.HOOKS)
        sync.expect(init.channel, sync.GO)


def _run_container_hooks(init: Init) -> None:
    if init.plan.hooks.get("createContainer"):
        posix.fchdir(init.root)  # where runc's find themselves
        document = state.document(init.plan.bundle, "creating", posix.getpid())
        hooks.run_all(init.plan.bundle.spec, ("createContainer",), document)


def _prepare_rootfs(init: Init) -> None:
    init.root = rootfs.prepare(init.plan)
    init.asked = sources.Asked(init.plan, init.channel)


def _mount_all(init: Init) -> None:
    init.root, init.devpts = rootfs.mount_all(init.plan, init.root, init.asked.take)


def _make_devices(init: Init) -> None:
    rootfs.make_devices(init.plan, init.root, init.asked.take)


def _open_console(init: Init) -> None:
    """A pty of the container's own devpts becomes stdio and /dev/console; its master goes to the parent with READY."""
    if init.plan.program.terminal:
        if init.devpts < 0:
            init.devpts = open_in_root(init.root, "/dev/pts", posix.O_RDONLY | posix.O_DIRECTORY)
        init.master, init.console = tty.open_pair(init.devpts)
        rootfs.bind_console(init.root, init.console)
        _take_console(init)
    if init.devpts >= 0:
        posix.close(init.devpts)


def _take_console(init: Init) -> None:
    rows, columns = init.plan.program.console_size
    if rows and columns:
        tty.set_size(init.master, rows, columns)
    tty.make_controlling(init.console)
    for number in (0, 1, 2):
        posix.dup2(init.console, number)


def _set_sysctls(init: Init) -> None:
    """Kernel settings of our namespaces, written through the host's /proc: no file of the image is ever in the way."""
    for name, value in init.plan.sysctls:
        fd.write_proc(init.proc, sysctl_path(name), value.encode())


def _hide_paths(init: Init) -> None:
    rootfs.mask_paths(init.plan, init.root)


def _pivot(init: Init) -> None:
    """From here on there is no other file system than the container's."""
    rootfs.pivot(init.plan, init.root)


# --- the program


def _set_limits(init: Init) -> None:
    program.set_limits(init.plan.program, init.proc, init.plan.user_namespace)


def _set_labels(init: Init) -> None:
    program.set_labels(init.plan.program, init.proc)


def _look_up(init: Init) -> None:
    program.add_home(init.plan.program)
    init.in_cwd = program.enter_cwd(init.plan.program)
    init.candidates = program.look_up(init.plan.program)
    init.image = Image(init.plan.program.args, init.plan.program.env)


def _wait_for_start(init: Init) -> None:
    """All is made. Tell the parent, and wait for the word: on the channel, or on the listener of a detached start."""
    if init.listener >= 0:
        process.set_pdeathsig(0)  # the parent goes, the container stays
    for number in _ENDING:  # pid 1 of a namespace is deaf to what it does not handle
        _signal.signal(number, lambda number, _frame: posix._exit(128 + number))
    _tell_ready(init)
    if init.listener >= 0:
        listening = _socket.socket(fileno=init.listener)
        connection, _ = listening._accept()  # type: ignore[attr-defined]
        posix.dup2(connection, init.channel, inheritable=False)
        posix.close(connection)
        listening.close()
    sync.expect(init.channel, sync.START)
    for number in _ENDING:
        _signal.signal(number, _signal.SIG_DFL)


def _tell_ready(init: Init) -> None:
    sync.send(init.channel, sync.READY, init.master)
    for descriptor in (init.master, init.console):
        if descriptor > 2:
            posix.close(descriptor)


def _fork_reaper(init: Init) -> None:
    """With `init` asked for, pid 1 stays what we are now and only reaps; the program is its first child."""
    if init.plan.reaper:
        reaper.split(init.plan.program, init.proc)


def become_user(init: Init) -> None:
    program.become_user(init.plan.program, (0, 1, 2))
    if init.plan.die_with_parent and init.plan.listener < 0:
        process.set_pdeathsig(_signal.SIGKILL)  # the change of user has cleared it
    if not init.in_cwd:
        program.enter_cwd(init.plan.program, as_user=True)


def _close_all(init: Init) -> None:
    """Nothing but stdio, what is passed on and the channel, which execve closes, reaches the program."""
    process.close_range(init.channel + 1)
    for descriptor in range(3 + init.plan.preserve_fds, init.channel):
        posix.close(descriptor)


def _confine(init: Init) -> None:
    process.set_pdeathsig(0)
    program.confine(init.plan.program, lambda listener: sync.tell_listener(init.channel, listener))


def _run_start_hooks(init: Init) -> None:
    """They are confined as the program is: same user, same capabilities, same filter."""
    if init.plan.hooks.get("startContainer"):
        pid = posix.getppid() if init.plan.reaper else posix.getpid()
        document = state.document(init.plan.bundle, "created", pid)
        hooks.run_all(init.plan.bundle.spec, ("startContainer",), document, init.plan.program.env)


def _execute(init: Init) -> None:
    init.plan.left = True  # from here on nothing in this memory is changed
    program.execute(init.plan.program, init.image, init.candidates)


Step = tuple[str, "Callable[[Init], None]"]

STEPS: tuple[Step, ...] = (
    ("let go of the parent's descriptors", _let_go),
    ("tie to the parent", _tie_to_parent),
    ("enter the cgroup", _enter_cgroup),
    ("join the namespaces", _join_namespaces),
    ("join a session keyring", _make_keyring),
    ("set the host name", _name_host),
    ("bring up the loopback", _raise_loopback),
    ("prepare the rootfs", _prepare_rootfs),
    ("mount", _mount_all),
    ("make the devices", _make_devices),
    ("run the createRuntime hooks", _run_host_hooks),
    ("run the createContainer hooks", _run_container_hooks),
    ("open the console", _open_console),
    ("set the sysctls", _set_sysctls),
    ("mask paths", _hide_paths),
    ("set the limits", _set_limits),
    ("set the security labels", _set_labels),
    ("pivot the root", _pivot),
    ("look up the program", _look_up),
    ("wait for the start", _wait_for_start),
    ("fork the program off pid 1", _fork_reaper),
    ("become the user", become_user),
    ("close the descriptors", _close_all),
    ("confine the program", _confine),
    ("run the startContainer hooks", _run_start_hooks),
    ("execute the program", _execute),
)


# --- an exec: the same end, after joining what is there


def _join_container(init: Init) -> None:
    """The group first, while its files can still be seen; then all namespaces of the container's init at once.

    Its processes see us from our birth in its pid namespace; `_let_go` has made us untraceable for them.
    """
    plan: ExecPlan = init.plan  # type: ignore[assignment]
    if plan.first_cpus:
        posix.sched_setaffinity(0, plan.first_cpus)
    if plan.sub_cgroups:
        cgroup.join_below(plan.cgroup, plan.sub_cgroups)
    else:
        cgroup.join(plan.cgroup, unified=False)
    if plan.cpus:
        posix.sched_setaffinity(0, plan.cpus)
    elif not plan.first_cpus:
        schedule.forget_affinity()
    root = posix.open(plan.chroot, posix.O_PATH | posix.O_CLOEXEC, dir_fd=init.proc) if plan.chroot else -1
    joined = plan.joined & ~(namespaces.CLONE_NEWPID | (namespaces.CLONE_NEWUSER if plan.as_user else 0))
    if not plan.lent:
        process.forget_imports()
    if joined:
        namespaces.setns(plan.container, joined)
    if root >= 0:
        borrowed_mounts.enter(root)
    if plan.joined & namespaces.CLONE_NEWUSER:
        user.become(0, 0, [])


def _join_keyring(init: Init) -> None:
    """The one that the container's init has made."""
    keyring.join_session(init.plan.keyring)


def _open_exec_console(init: Init) -> None:
    if not init.plan.program.terminal:
        return
    root = posix.open("/", posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    devpts = open_in_root(root, "/dev/pts", posix.O_RDONLY | posix.O_DIRECTORY)
    init.master, init.console = tty.open_pair(devpts)
    posix.close(devpts)
    posix.close(root)
    _take_console(init)


def _wait_for_word(init: Init) -> None:
    _tell_ready(init)
    sync.expect(init.channel, sync.START)


EXEC_STEPS: tuple[Step, ...] = (
    STEPS[0],
    ("tie to the parent", _tie_to_parent),
    ("set the limits", _set_limits),
    ("set the security labels", _set_labels),
    ("join the container", _join_container),
    ("join a session keyring", _join_keyring),
    ("open the console", _open_exec_console),
    ("look up the program", _look_up),
    ("wait for the start", _wait_for_word),
    ("become the user", become_user),
    ("close the descriptors", _close_all),
    ("confine the program", _confine),
    ("execute the program", _execute),
)


def run(init: Init, steps: tuple[Step, ...]) -> None:
    """Take the steps. What fails is told on the channel; then the process ends, unless its memory is lent."""
    name = ""
    try:
        for step in steps:
            name = step[0]
            step[1](init)
    except BaseException as error:  # whatever it is, it must not unwind into the parent's code
        sync.send(init.channel, sync.pack_failure(from_exception(name, error)))
    finally:
        if not init.plan.lent:
            posix._exit(255)


def main(plan: Plan, channel: int, stdio: tuple[int, int, int]) -> None:
    """The life of a container's first process, from clone3 on. Returns only in a launcher's memory, having failed."""
    run(Init(plan, channel, stdio), STEPS)


def main_exec(plan: ExecPlan, channel: int, stdio: tuple[int, int, int]) -> None:
    """The same for one more process in a running container."""
    run(Init(plan, channel, stdio), EXEC_STEPS)  # type: ignore[arg-type]
