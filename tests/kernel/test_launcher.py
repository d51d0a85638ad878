"""The launcher, which lends its memory to starts and execs: it may be killed at any moment, and nothing of it gets into a program."""

import asyncio
import os
import signal

import pytest
from zygote_world import GROUPS, go, process, processes, read_all, role

from corten.base.errors import Conflict, Internal
from corten.linux import cgroup
from corten.zygote.client import StartFailed
from corten.zygote.launcher import USES

PATIENCE_S = 60


def launcher(layout):
    """Its pid; 0 when there is none now."""
    zygote = role(layout, "zygote")
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                comm, _, rest = file.read().partition("(")[2].rpartition(")")
        except OSError:
            continue
        if comm == "corten-launch" and int(rest.split()[1]) == zygote and rest.split()[0] != "Z":
            return int(name)
    return 0


def switches(pid):
    with open(f"/proc/{pid}/status") as file:
        return int(next(line for line in file if line.startswith("voluntary")).split()[1])


def kinds(pid):
    """What its descriptors are, but for the namespaces that it opens now and then."""
    links = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            links.append(os.readlink(f"/proc/{pid}/fd/{fd}").partition(":")[0])
        except FileNotFoundError:
            continue
    return sorted(link for link in links if link not in ("net", "pid"))


async def until(condition):
    for _ in range(PATIENCE_S * 100):
        if found := condition():
            return found
        await asyncio.sleep(0.01)
    raise AssertionError("it does not happen")


async def run(world, name, document, **asked):
    """(exit code, stdout, stderr) of an exec; with a terminal all is stdout."""
    options = {"tty": False, "stdin": False, "output": True, **asked}
    started = await world.client.exec("c", name, document, **options)
    outputs = [await read_all(fd) if fd >= 0 else b"" for fd in (started.stdout, started.stderr)]
    status = (await world.event("exit", "c", name, timeout=PATIENCE_S))["status"]
    await world.client.forget("c", name)
    return status, *outputs


async def ready(world):
    """A launcher that has been seen to serve an exec; its pid."""
    for number in range(1000):
        pid = await until(lambda: launcher(world.layout))
        try:
            before = switches(pid)
            assert (await run(world, f"warm{number}", process("true")))[0] == 0
            if switches(pid) > before:
                return pid
        except FileNotFoundError:
            continue
    raise AssertionError("the launcher does not serve")


def scene(layout, rootfs, scenario):
    async def with_container(world):
        await world.run("c", "sleep", "1000")
        await scenario(world)
    go(layout, rootfs, with_container)


def test_many_in_a_row_by_several_launchers(layout, rootfs):
    async def scenario(world):
        seen = {await ready(world)}
        zygote = role(layout, "zygote")
        held = kinds(zygote)
        for number in range(2 * USES):
            script = f"echo out {number}; echo err >&2; exit {number % 256}"
            answer = await run(world, f"e{number}", process("sh", "-c", script))
            assert answer == (number % 256, b"out %d\n" % number, b"err\n")
            seen.add(launcher(layout))
        assert len(seen - {0}) > 1
        await ready(world)
        await until(lambda: kinds(zygote) == held)
        assert [entry["id"] for entry in await world.client.list()] == ["c"]
    scene(layout, rootfs, scenario)


def test_in_parallel(layout, rootfs):
    async def scenario(world):
        await ready(world)
        answers = await asyncio.gather(*(
            run(world, f"e{number}", process("sh", "-c", f"echo {number}; exit {number}")) for number in range(24)))
        assert [(status, out) for status, out, _err in answers] == [(n, b"%d\n" % n) for n in range(24)]
    scene(layout, rootfs, scenario)


def test_nothing_of_the_launcher_reaches_the_program(layout, rootfs):
    async def scenario(world):
        await ready(world)
        status, out, _err = await run(world, "fds", process("sh", "-c", "ls /proc/self/fd; echo; cat /proc/$$/maps"))
        fds, _, maps = out.decode().partition("\n\n")
        assert status == 0 and fds.split() == ["0", "1", "2", "3"]  # 3 is the folder that ls reads
        names = {line.split(None, 5)[5] for line in maps.splitlines() if len(line.split(None, 5)) == 6}
        assert names <= {"/bin/busybox", "[heap]", "[stack]", "[vdso]", "[vvar]", "[vvar_vclock]", "[vsyscall]"}
        status, out, _err = await run(world, "state", process("cat", "/proc/self/status"))
        state = dict(line.split(":\t", 1) for line in out.decode().splitlines() if ":\t" in line)
        assert state["SigIgn"] == state["SigBlk"] == state["SigCgt"] == "0" * 16
        assert state["PPid"] == "0" and state["CapEff"] == "0" * 16
    scene(layout, rootfs, scenario)


def test_user_folder_capabilities_environment_and_terminal(layout, rootfs):
    async def scenario(world):
        await ready(world)
        document = process("sh", "-c", "cat /proc/self/status; pwd; echo $WORD; umask", tty=True)
        document.update(cwd="/tmp", env=["PATH=/bin", "WORD=given"], noNewPrivileges=True,
                        user={"uid": 1234, "gid": 2345, "additionalGids": [7], "umask": 0o27},
                        capabilities={"bounding": ["CAP_CHOWN"], "permitted": [], "effective": []})
        status, out, _err = await run(world, "e", document, tty=True)
        lines = out.decode().replace("\r", "").splitlines()
        state = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        assert status == 0 and lines[-3:] == ["/tmp", "given", "0027"]
        assert state["Uid"] == "1234\t1234\t1234\t1234" and state["Gid"] == "2345\t2345\t2345\t2345"
        assert state["Groups"].split() == ["7"] and state["NoNewPrivs"] == "1"
        assert state["CapBnd"] == "0000000000000001" and state["CapEff"] == "0" * 16
        status, out, _err = await run(world, "t", process("tty", tty=True), tty=True)
        assert (status, out) == (0, b"/dev/pts/0\r\n")
    scene(layout, rootfs, scenario)


@pytest.mark.parametrize(("program", "code"), [("nosuch", 127), ("/bin", 126)])
def test_a_failure_is_told_and_the_launcher_stays(layout, rootfs, program, code):
    async def scenario(world):
        pid = await ready(world)
        for number in range(3):
            with pytest.raises(StartFailed) as caught:
                await world.client.exec("c", f"f{number}", process(program), tty=False, stdin=False, output=True)
            assert caught.value.exit_code == code and program in str(caught.value)
        assert await ready(world) == pid
        assert [entry["id"] for entry in await world.client.list()] == ["c"]
    scene(layout, rootfs, scenario)


def test_killed_before_and_between(layout, rootfs):
    async def scenario(world):
        for number in range(3):
            pid = await ready(world)
            os.kill(pid, signal.SIGKILL)
            answer = await run(world, f"e{number}", process("sh", "-c", "cat; exit 3"), stdin=False)
            assert answer == (3, b"", b"")
            assert await ready(world) != pid
    scene(layout, rootfs, scenario)


def test_killed_with_a_request_in_hand(layout, rootfs):
    async def scenario(world):
        pid = await ready(world)
        os.kill(pid, signal.SIGSTOP)
        waiting = asyncio.ensure_future(run(world, "e", process("echo", "there")))
        await asyncio.sleep(0)
        assert (await world.client.list())[0]["id"] == "c"  # the zygote has had the request before this one
        assert not waiting.done()
        os.kill(pid, signal.SIGKILL)
        assert await waiting == (0, b"there\n", b"")
        await ready(world)
    scene(layout, rootfs, scenario)


def held_child(world):
    """The pid of the exec that the frozen cgroup holds on its way; 0 while it is not there."""
    inside = set(cgroup.processes(f"{GROUPS}/c"))
    with_init = {entry["pid"] for entry in world.entries}
    return next(iter(inside - with_init), 0)


@pytest.mark.parametrize("victim", ["launcher", "zygote"])
def test_killed_while_a_program_is_on_its_way(layout, rootfs, victim):
    """A frozen cgroup holds the child in the middle: it has joined, and has not executed."""
    async def scenario(world):
        pid = await ready(world)
        world.entries = await world.client.list()
        await world.client.pause(f"{GROUPS}/c")
        waiting = asyncio.ensure_future(run(world, "e", process("echo", "there")))
        child = await until(lambda: held_child(world))
        if victim == "launcher":
            os.kill(pid, signal.SIGKILL)
            await world.client.unpause(f"{GROUPS}/c")
            assert await waiting == (0, b"there\n", b"")
        else:
            os.kill(role(layout, "zygote"), signal.SIGKILL)
            await world.client.unpause(f"{GROUPS}/c")
            with pytest.raises(StartFailed):
                await waiting
            await until(lambda: child not in cgroup.processes(f"{GROUPS}/c"))
            assert [entry["id"] for entry in await world.client.list()] == ["c"]
        assert await ready(world) != pid
        assert len(processes(layout)) == 3
    scene(layout, rootfs, scenario)


def zombies(layout):
    """Children of the zygote that nobody has reaped."""
    zygote, found = role(layout, "zygote"), []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                rest = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        if rest[0] == "Z" and int(rest[1]) == zygote:
            found.append(int(name))
    return found


@pytest.mark.parametrize("joined", [False, True], ids=["at its birth", "having joined"])
def test_a_child_killed_on_its_way(layout, rootfs, joined):
    """Whoever is in the container may kill it; the memory it was in is not lent again, and nobody waits for its end."""
    async def scenario(world):
        pid = await ready(world)
        world.entries = await world.client.list()
        await world.client.pause(f"{GROUPS}/c")
        waiting = asyncio.ensure_future(run(world, "e", process("echo", "there")))
        child = await until(lambda: held_child(world))
        if joined:  # the last of the groups, in which it is frozen
            await until(lambda: is_frozen(child))
        os.kill(child, signal.SIGKILL)
        await world.run("other", "sh", "-c", "exit 4")  # the zygote is there for others meanwhile
        assert (await world.event("exit", "other", timeout=PATIENCE_S))["status"] == 4
        await world.client.unpause(f"{GROUPS}/c")
        try:
            # killed before it could say that it was there (in v2 it is frozen from its birth): another took its place
            assert await waiting == (0, b"there\n", b"") and not (joined and cgroup.hierarchies().v1)
        except StartFailed:
            pass
        assert await ready(world) != pid
        await until(lambda: not zombies(layout))
        assert [entry["id"] for entry in await world.client.list() if not entry["exec_id"]] == ["c", "other"]
    scene(layout, rootfs, scenario)


def is_frozen(pid):
    """Whether the kernel holds it in a frozen group: in v1 it sleeps in the refrigerator, in v2 it is trapped."""
    try:
        with open(f"/proc/{pid}/wchan") as file:
            where = file.read()
        with open(f"/proc/{pid}/cgroup") as file:
            groups = file.read()
    except FileNotFoundError:
        return False
    return f":freezer:{GROUPS}/c\n" in groups if "freezer" in groups else "freez" in where


def test_an_exec_given_up_in_a_frozen_container(layout, rootfs):
    """It cannot die yet; the zygote serves others, and reaps it when it does."""
    async def scenario(world):
        await ready(world)
        world.entries = await world.client.list()
        await world.client.pause(f"{GROUPS}/c")
        waiting = asyncio.ensure_future(run(world, "e", process("echo", "there")))
        await until(lambda: held_child(world))
        forgotten = asyncio.ensure_future(world.client.forget("c", "e"))
        for number in range(3):
            await world.run(f"other{number}", "true")
            assert (await world.event("exit", f"other{number}", timeout=PATIENCE_S))["status"] == 0
        await world.client.unpause(f"{GROUPS}/c")
        await forgotten
        try:
            assert await waiting == (0, b"there\n", b"")  # given up before it had begun
        except StartFailed:
            pass
        await until(lambda: not zombies(layout))
        assert (await run(world, "after", process("echo", "x")))[:2] == (0, b"x\n")
    scene(layout, rootfs, scenario)


def test_a_frozen_container_is_forgotten_at_once(layout, rootfs):
    async def scenario(world):
        await world.client.pause(f"{GROUPS}/c")
        await world.client.forget("c")
        assert await world.client.list() == [] and not cgroup.exists(f"{GROUPS}/c")
        await world.run("c", "sh", "-c", "exit 3")
        assert (await world.event("exit", "c", timeout=PATIENCE_S))["status"] == 3
    scene(layout, rootfs, scenario)


def test_a_launcher_that_hangs_is_replaced(layout, rootfs):
    async def scenario(world):
        pid = await ready(world)
        os.kill(pid, signal.SIGSTOP)
        assert await run(world, "e", process("echo", "there")) == (0, b"there\n", b"")
        assert await ready(world) != pid
    scene(layout, rootfs, scenario)


# --- containers' first processes


def lending(pid):
    """Whether the launcher sleeps while a child is in its memory: vfork(2)'s sleep cannot be interrupted."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "D"


async def lent_init(world, name, *args, **options):
    """A container whose init waits for its start in the launcher's memory; the launcher's pid and the init's."""
    for number in range(100):
        pid = await ready(world)
        created = await world.create(f"{name}{number}", *args, **options)
        if lending(pid):
            return pid, created.pid, f"{name}{number}"
        await world.client.forget(f"{name}{number}")
    raise AssertionError("the launcher makes no init")


def test_an_init_by_the_launcher(layout, rootfs):
    async def scenario(world):
        pid, _init, name = await lent_init(world, "i", "sh", "-c", "ls /proc/self/fd; echo; cat /proc/1/maps; exit 5")
        await world.client.start(name)
        assert (await world.event("exit", name, timeout=PATIENCE_S))["status"] == 5
        await world.event("drained", name, timeout=PATIENCE_S)
        fds, _, maps = world.log(name)[1].decode().partition("\n\n")
        assert fds.split() == ["0", "1", "2", "3"]
        assert not any("python" in line or "libffi" in line for line in maps.splitlines())
        assert await ready(world) == pid
    scene(layout, rootfs, scenario)


@pytest.mark.parametrize("victim", ["launcher", "init", "zygote"])
def test_killed_while_an_init_waits_for_its_start(layout, rootfs, victim):
    async def scenario(world):
        pid, init, name = await lent_init(world, "i", "sh", "-c", "exit 5")
        os.kill({"launcher": pid, "init": init, "zygote": role(layout, "zygote")}[victim], signal.SIGKILL)
        if victim == "launcher":
            await world.client.start(name)
            assert (await world.event("exit", name, timeout=PATIENCE_S))["status"] == 5
        else:
            try:
                await world.client.start(name)
            except StartFailed:
                pass
            except Conflict:  # its end has been taken for its start
                assert (await world.event("exit", name, timeout=PATIENCE_S))["status"] in (125, 137)
            else:  # told before its end was seen
                assert (await world.event("exit", name, timeout=PATIENCE_S))["status"] in (125, 137)
        assert await ready(world) != pid
        await world.run("after", "sh", "-c", "exit 6")
        assert (await world.event("exit", "after", timeout=PATIENCE_S))["status"] == 6
    scene(layout, rootfs, scenario)


def test_a_start_that_is_refused_leaves_no_process(layout, rootfs):
    async def scenario(world):
        await ready(world)
        zygote = role(layout, "zygote")
        for number in range(3):
            with pytest.raises(Internal):
                await world.create(f"i{number}", "true", resources={"memory": {"limit": 1 << 62, "swap": 4096}})
        with open(f"/proc/{zygote}/task/{zygote}/children") as file:
            children = [int(word) for word in file.read().split()]
        names = {open(f"/proc/{child}/comm").read().strip() for child in children}
        assert names <= {"corten-pump", "corten-launch", "corten-zygote", "sleep"}
        assert [entry["id"] for entry in await world.client.list()] == ["c"]
    scene(layout, rootfs, scenario)
