"""Making a container: cgroup, clone, and the parent's half of the dialogue with the child.

The child's half is init.py. One clone3 makes all new namespaces; what must differ for the child alone (a joined pid
namespace, time offsets) is set in the caller around it. Only a single-threaded process may call `spawn`.
"""

import errno
import posix

from corten.linux import cgroup, namespaces, process, user
from corten.linux.fd import write_file
from corten.linux.proc import read_text
from corten.runtime import borrowed_mounts, hooks, init, joined_user, net_devices, sources, state, sync
from corten.runtime.bundle import Bundle
from corten.runtime.errors import StepFailed
from corten.runtime.plan import Plan, limits
from corten.runtime.seccomp_agent import agent_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from corten.runtime.seccomp_agent import Agent

CREATING = "creating"
BORN = "born"
UNBORN = "unborn"
CREATED = "created"
RUNNING = "running"
FAILED = "failed"
_BIRTH_MS = 5000  # a launcher that has not begun by then has hung


class Child:
    """One init or exec process under way.

    `channel` becomes readable when `receive` has something to do. `console` is the pty's master once it is created.
    `close` closes the channel only: pidfd and console belong to the caller. One made by a launcher has a pid (else 0)
    and a pidfd (else -1) once it is born, or is unborn for good.
    """

    __slots__ = (
        "_bundle", "_told", "agent", "channel", "console", "failure", "forerunner", "id", "lent", "pid", "pidfd",
        "start_time", "state",
    )

    def __init__(self, id: str, pid: int, pidfd: int, channel: int, bundle: Bundle | None = None) -> None:
        self.id = id
        self.pid = pid
        self.pidfd = pidfd
        self.channel = channel
        self.console = -1
        self.state = CREATING
        self.failure: StepFailed | None = None
        self._bundle = bundle
        self._told = False
        self.agent: Agent | None = None  # whom the program's seccomp filter notifies
        self.lent = not pid
        self.forerunner = -1  # the pidfd of whoever makes it, to be reaped (forerunner.py)
        self.start_time = process.start_time(pid) if pid else 0

    def receive(self) -> str:
        """Take one message, if there is one; returns the state then. Never blocks, except while hooks run."""
        if self.channel < 0:
            return self.state
        try:
            message, descriptor = sync.receive(self.channel, wait=False)
        except BlockingIOError:
            return self.state
        kind = message[:1]
        if kind == sync.BORN and self.pidfd < 0 <= descriptor:
            self._take_birth(descriptor)
        elif kind == sync.READY and self.state in (CREATING, BORN):
            self.console = descriptor
            self.state = CREATED
        elif descriptor >= 0:
            posix.close(descriptor)  # who is traced may say anything
        elif kind == sync.FAILED:
            self._fail(sync.unpack_failure(message))
        elif kind == sync.HOOKS:
            self._run_hooks()
        elif kind == sync.LISTENER:
            self._hand_over(message[1:])
        elif not kind and self.state == CREATED:
            self.state = RUNNING
        elif not kind and self.pidfd < 0:
            self.state = UNBORN
        elif not kind and self.state in (CREATING, BORN):
            self._fail(self._ended_early())
        return self.state

    def wait(self) -> str:
        """Block until the state is another one than now; for callers that have nothing else to do."""
        before = self.state
        while self.state == before and self.channel >= 0:
            posix.set_blocking(self.channel, True)
            _wait_readable(self.channel)
            self.receive()
        return self.state

    def ended(self) -> str:
        """The process has ended; returns the state then.

        A launcher has a copy of the child's end of the channel, for a moment longer than the child: the end of the file
        may be late, and one that said nothing of a failure has executed.
        """
        if self.lent and self._told and self.state == CREATED:
            self.state = RUNNING
        return self.state

    def start(self) -> None:
        """Let it execve. May be called before it is created: the word then waits for it."""
        self._told = True
        sync.send(self.channel, sync.START)

    def close(self) -> None:
        """Close the channel; safe to repeat. A child that still waits for its start then exits."""
        if self.channel >= 0:
            posix.close(self.channel)
            self.channel = -1

    def _take_birth(self, pidfd: int) -> None:
        try:
            self.pid = process.pid_of(pidfd)
            self.start_time = process.start_time(self.pid)
        except (ProcessLookupError, FileNotFoundError):
            self.pid = 0  # it has been killed and reaped
        self.pidfd = pidfd
        self.state = BORN

    def _fail(self, failure: StepFailed) -> None:
        self.failure = failure
        self.state = FAILED

    def _ended_early(self) -> StepFailed:
        """It said nothing: somebody has killed it, and the kernel tells when that was itself."""
        from corten.linux import cgroup_oom

        text = "the container's init ended before it was ready"
        if self._bundle is not None and self._bundle.cgroup and cgroup_oom.oom_kills(self._bundle.cgroup):
            text = "container init was OOM-killed (memory limit too low?)"
        return StepFailed("start the init", detail=text)

    def _run_hooks(self) -> None:
        """prestart and createRuntime run here, in the runtime's namespaces; one that fails ends the container."""
        bundle = self._bundle
        try:
            if bundle is not None:
                document = state.document(bundle, "creating", self.pid)
                hooks.run_all(bundle.spec, ("prestart", "createRuntime"), document)
        except StepFailed as failure:
            self._fail(failure)
            process.pidfd_send_signal(self.pidfd, 9)
        else:
            sync.send(self.channel, sync.GO)

    def _hand_over(self, number: bytes) -> None:
        try:
            if self.agent is None or not number.isdigit() or len(number) > 9:
                raise StepFailed("confine the program", detail="a listener that nobody has asked for")
            self.agent.hand_over(self.pid, self.pidfd, int(number))
        except StepFailed as failure:
            self._fail(failure)
            process.pidfd_send_signal(self.pidfd, 9)
        else:
            sync.send(self.channel, sync.GO)


def _wait_readable(channel: int, timeout_ms: int | None = None) -> bool:
    import select

    poll = select.poll()
    poll.register(channel, select.POLLIN)
    return bool(poll.poll(timeout_ms))


def spawn(
    bundle: Bundle,
    stdio: tuple[int, int, int],
    *,
    die_with_parent: bool = True,
    preserve_fds: int = 0,
    listener: int = -1,
    no_pivot: bool = False,
    keyring: bool = True,
    rootless: bool = False,
    spare_network: "Callable[[], int] | None" = None,
    lent: int = -1,
) -> Child:
    """Start a container's init; returns right after the clone, while the init goes on with its steps by itself.

    `stdio` are the child's descriptors 0, 1, 2 (ignored when process.terminal: it gets a pty of its own devpts).
    `preserve_fds` more, from 3 on, are passed to the program. `listener` is a listening SEQPACKET socket on which the
    child waits for its start instead of on the channel. `spare_network` gives the descriptor of a new network namespace
    nobody has used (or -1), for when the spec asks for one. `no_pivot`: the root is moved over the old one instead of
    swapped with it; `keyring`: a new session keyring; `rootless`: a cgroup that may not be made is no error unless the
    spec names one or sets limits. `lent`: our end of the channel of a child that a launcher has been asked for
    (lending.py); when it makes none, one is made here. Raises InvalidArgument, Unsupported, OSError; nothing is left
    behind then.
    """
    try:
        if lent >= 0:  # while the launcher reads the same bundle
            _make_groups(bundle, limits(bundle.spec))
            sync.send(lent, sync.GO)
        plan = Plan(bundle)
    except BaseException:
        abandon(lent)
        if lent >= 0:
            destroy(bundle)
        raise
    plan.die_with_parent = die_with_parent
    plan.preserve_fds = preserve_fds
    plan.listener = listener
    plan.no_pivot = no_pivot
    plan.keyring = f"_ses.{bundle.id}" if keyring else ""
    plan.rootless = rootless
    try:
        if lent >= 0:
            child = _take(bundle, plan, lent)
            if child is not None:
                return child
        group = birthplace(bundle, plan)
        plan.loopback = spare_network is None and bool(plan.clone_flags & namespaces.CLONE_NEWNET)
        if spare_network and plan.clone_flags & namespaces.CLONE_NEWNET and not plan.user_namespace:
            plan.spare_network = spare_network()
        return _clone(bundle, plan, stdio, group)
    except BaseException:
        destroy(bundle)
        raise


def birthplace(bundle: Bundle, plan: Plan) -> int:
    """The group in which the init is born; one that an unprivileged user may not make is gone without, as in runc."""
    if bundle.unit:
        return -1  # systemd makes its scope around a process
    try:
        return cgroup.birthplace(bundle.cgroup)
    except OSError as error:
        refused = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
        if not (refused and plan.rootless) or (bundle.spec.get("linux") or {}).get("cgroupsPath"):
            raise
        if any(resource for name, resource in plan.resources.items() if name != "devices"):
            text = "rootless needs no limits + no cgrouppath when no permission is granted for cgroups"
            raise StepFailed("make the cgroup", "mkdir", error.errno or 0, bundle.cgroup, text) from None
    bundle.groupless = True
    plan.cgroup = ""
    return -1


def _clone(bundle: Bundle, plan: Plan, stdio: tuple[int, int, int], group: int) -> Child:
    ours, theirs = sync.make_pair()
    restore: list[tuple[int, int]] = []
    try:
        enter_joined(plan, restore)
        if plan.user_namespace_path:
            pid, pidfd = joined_user.clone(lambda: _enter_user(plan), plan.clone_flags)
        else:
            pid, pidfd = namespaces.clone3(plan.clone_flags, group)
        if pid == 0:
            init.main(plan, theirs, stdio)
    except BaseException:
        posix.close(ours)
        raise
    finally:
        posix.close(theirs)
        if group >= 0:
            posix.close(group)
        for descriptor, flag in restore:
            namespaces.setns(descriptor, flag)
            posix.close(descriptor)
    try:
        if bundle.unit:
            from corten.runtime import systemd

            systemd.start(bundle, plan.resources, pid)
        _make_groups(bundle, plan.resources)
        if plan.user_namespace:
            _map_users(plan, pid)
        net_devices.move(plan, pid)
        sync.send(ours, sync.GO)
        return _attend(bundle, plan, ours, pid, pidfd)
    except BaseException:
        _give_up(ours, pidfd)
        raise


def _enter_user(plan: Plan) -> None:
    plan.joins = joined_user.enter_path(plan.user_namespace_path, plan.joins)


def _make_groups(bundle: Bundle, resources: "dict[str, Any]") -> None:
    if bundle.cgroup:
        made = cgroup.create(bundle.cgroup, resources)
        if made >= 0:
            posix.close(made)


def _attend(bundle: Bundle, plan: Plan, ours: int, pid: int, pidfd: int) -> Child:
    """What the child waits for next; then its state is put on record."""
    sources.send(plan, pid, ours)
    posix.set_blocking(ours, False)
    child = Child(bundle.id, pid, pidfd, ours, bundle)
    child.agent = agent_of(bundle.spec, state.document(bundle, "creating", pid))
    state.save(
        bundle, pid, child.start_time, shared_pids=not plan.clone_flags & namespaces.CLONE_NEWPID,
        keyring=bool(plan.keyring),
    )
    return child


def _give_up(ours: int, pidfd: int) -> None:
    process.pidfd_send_signal(pidfd, 9)
    posix.waitid(posix.P_PIDFD, pidfd, posix.WEXITED)
    posix.close(pidfd)
    posix.close(ours)


def abandon(lent: int) -> None:
    """The child that a launcher was asked for is not wanted: see it born and gone. -1 for none."""
    if lent < 0:
        return
    pidfd = _await_birth(lent)
    if pidfd < 0:
        posix.close(lent)
    else:
        _give_up(lent, pidfd)


def _await_birth(ours: int) -> int:
    """The pidfd of a launcher's child; -1 when it makes none."""
    message, pidfd = sync.receive(ours) if _wait_readable(ours, _BIRTH_MS) else (b"", -1)
    return pidfd if message == sync.BORN else -1


def _take(bundle: Bundle, plan: Plan, ours: int) -> Child | None:
    """The parent's half for a child that a launcher makes, once it may go; None when it has not made any."""
    pidfd = _await_birth(ours)
    if pidfd < 0:
        posix.close(ours)
        return None
    try:
        child = _attend(bundle, plan, ours, process.pid_of(pidfd), pidfd)
    except BaseException:
        _give_up(ours, pidfd)
        raise
    child.lent = True
    return child


def enter_joined(plan: Plan, restore: list[tuple[int, int]]) -> None:
    """Set up in the caller what only takes effect for its children; the way back is added to `restore`."""
    if plan.spare_network >= 0:
        plan.clone_flags &= ~namespaces.CLONE_NEWNET
        restore.append((namespaces.open_own("net"), namespaces.CLONE_NEWNET))
        namespaces.setns(plan.spare_network, namespaces.CLONE_NEWNET)
        posix.close(plan.spare_network)
    if plan.pid_namespace_path:
        restore.append((namespaces.open_own("pid"), namespaces.CLONE_NEWPID))
        joined = posix.open(plan.pid_namespace_path, posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            namespaces.check_type(joined, "pid", plan.pid_namespace_path)
            namespaces.setns(joined, namespaces.CLONE_NEWPID)
        finally:
            posix.close(joined)
    if plan.time_offsets:
        restore.append((namespaces.open_own("time"), namespaces.CLONE_NEWTIME))
        namespaces.unshare(namespaces.CLONE_NEWTIME)
        write_file("/proc/self/timens_offsets", plan.time_offsets.encode())


def _map_users(plan: Plan, pid: int) -> None:
    """Write the id mappings of the child's user namespace, and put it into its cgroup, which it may not do itself."""
    if plan.user_namespace_path:
        plan.uid_map, plan.gid_map = read_text(f"/proc/{pid}/uid_map"), read_text(f"/proc/{pid}/gid_map")
    else:
        user.write_maps(pid, plan.uid_map, plan.gid_map)
    cgroup.join(plan.cgroup, pid)


def destroy(bundle: Bundle) -> None:
    """Kill what is left in its cgroups; remove them, and its mounts in our namespace. Absence is no error."""
    cgroup.remove(bundle.cgroup)
    if bundle.unit:
        from corten.runtime import systemd

        systemd.stop(bundle.unit)
    if state.borrows_mounts(bundle.spec):
        borrowed_mounts.take_away(bundle.rootfs)
