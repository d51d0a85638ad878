"""Zygote, pump and anchor with real containers: stdio, exits, exec, and kill -9 of each of them."""

import asyncio
import json
import os
import select
import shutil
import signal
import time

import pytest
from zygote_world import GROUPS, World, go, process, processes, read_all, role, settle

from corten.base.errors import NotFound
from corten.linux import cgroup
from corten.linux.cgroup import hierarchies
from corten.zygote.client import StartFailed, StartLost, ZygoteClient


def test_output_exit_code_and_both_events(layout, rootfs):
    async def scenario(world):
        await world.run("c", "sh", "-c", "echo out; echo err >&2; exit 7")
        exited = await world.event("exit", "c")
        await world.event("drained", "c")
        assert exited["status"] == 7 and exited["oom"] is False
        assert world.log("c") == {1: b"out\n", 2: b"err\n"}
        with open(f"{layout.exits}/c.json") as file:
            assert json.load(file)["status"] == 7
        await world.client.forget("c")
        assert os.listdir(layout.exits) == []
        assert await world.client.list() == []
    go(layout, rootfs, scenario)


def test_killed_by_a_signal_is_128_and_the_signal(layout, rootfs):
    async def scenario(world):
        await world.run("c", "sleep", "1000")
        await world.client.signal("c", signal.SIGKILL)
        assert (await world.event("exit", "c"))["status"] == 137
        with pytest.raises(NotFound):
            await world.client.signal("c", signal.SIGKILL)
    go(layout, rootfs, scenario)


@pytest.mark.parametrize(("program", "code"), [("nosuch", 127), ("/bin/nosuch", 127), ("/etc", 126)])
def test_a_program_that_cannot_start(layout, rootfs, program, code):
    async def scenario(world):
        with pytest.raises(StartFailed) as caught:
            await world.create("c", program)  # says so already when the init has been quick to fail
            await world.client.start("c")
        assert caught.value.exit_code == code
        assert program in str(caught.value)
        assert await world.client.list() == []
        await world.run("c", "true")  # the name is free, nothing is in the way
        assert (await world.event("exit", "c"))["status"] == 0
    go(layout, rootfs, scenario)


def test_stdin_reaches_the_container_and_its_end_too(layout, rootfs):
    async def scenario(world):
        await world.run("c", "cat", open_stdin=True)
        descriptor = await world.client.stdin("c")
        os.write(descriptor, b"hello\n")
        os.close(descriptor)
        await world.client.close_stdin("c")
        assert (await world.event("exit", "c"))["status"] == 0
        await world.event("drained", "c")
        assert world.log("c")[1] == b"hello\n"
    go(layout, rootfs, scenario)


def test_a_terminal_is_one_and_has_the_size_given(layout, rootfs):
    async def scenario(world):
        await world.run("c", "sh", "-c", "tty; read x; stty size; exit 3", tty=True, open_stdin=True)
        await world.client.resize("c", 33, 99)
        descriptor = await world.client.stdin("c")
        os.write(descriptor, b"go\n")
        os.close(descriptor)
        assert (await world.event("exit", "c"))["status"] == 3
        await world.event("drained", "c")
        text = world.log("c")[1]
        assert b"33 99\r\n" in text and b"/dev/" in text
    go(layout, rootfs, scenario)


def test_exec_has_its_own_stdio_and_exit(layout, rootfs):
    async def scenario(world):
        await world.run("c", "sleep", "1000")
        started = await world.client.exec(
            "c", "e1", process("sh", "-c", "cat; echo err >&2; exit 9"), tty=False, stdin=True, output=True)
        os.write(started.stdin, b"through\n")
        os.close(started.stdin)
        assert await read_all(started.stdout) == b"through\n"
        assert await read_all(started.stderr) == b"err\n"
        assert (await world.event("exit", "c", "e1"))["status"] == 9
        with pytest.raises(StartFailed) as caught:
            await world.client.exec("c", "e2", process("nosuch"), tty=False, stdin=False, output=True)
        assert caught.value.exit_code == 127
        await world.client.forget("c", "e1")
    go(layout, rootfs, scenario)


def test_only_execs_that_have_ended_are_forgotten(layout, rootfs):
    async def scenario(world):
        await world.run("c", "sleep", "1000")
        for name, command in (("over", ("true",)), ("runs", ("sleep", "1000"))):
            await world.client.exec("c", name, process(*command), tty=False, stdin=False, output=False)
        await world.event("exit", "c", "over")
        await world.client.forget_execs([("c", "over"), ("c", "runs"), ("c", "unknown")])
        assert {entry["exec_id"] for entry in await world.client.list()} == {None, "runs"}
        await world.client.forget("c", "runs")
    go(layout, rootfs, scenario)


def test_exec_with_a_terminal(layout, rootfs):
    async def scenario(world):
        await world.run("c", "sleep", "1000")
        started = await world.client.exec("c", "e", process("sh", "-c", "stty size; read x; echo got $x", tty=True),
                                          tty=True, stdin=True, output=True)
        assert started.stdin == started.stdout
        os.write(started.stdin, b"word\n")
        await world.event("exit", "c", "e")
        poll = select.poll()
        poll.register(started.stdout, select.POLLIN)
        found = b""
        while b"got word" not in found:  # the terminal hands its lines on one by one
            assert poll.poll(60_000), found
            found += os.read(started.stdout, 65536)
        os.close(started.stdout)
        await world.client.forget("c", "e")
    go(layout, rootfs, scenario)


COUNT = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; exit 5"


@pytest.mark.parametrize("victims", [
    ["zygote"], ["pump"], ["anchor"],
    ["zygote", "anchor"], ["anchor", "zygote"], ["zygote", "zygote"], ["anchor", "anchor", "pump", "zygote"],
])
def test_kill_9_loses_no_line_and_no_exit_code(layout, rootfs, victims):
    async def scenario(world):
        await world.run("writer", "sh", "-c", COUNT)
        await world.run("dies", "sh", "-c", "sleep 0.2; exit 42")
        await world.run("tty", "sh", "-c", "read x; echo got $x; exit 6", tty=True, open_stdin=True)
        await world.run("stays", "sleep", "1000")
        for victim in victims:
            pid = role(layout, victim)
            os.kill(pid, signal.SIGKILL)
            await settle(layout, pid)
            entries = {entry["id"]: entry for entry in await world.client.list()}
            assert entries["stays"]["state"] == "running"
        assert (await world.event("exit", "dies"))["status"] == 42
        descriptor = await world.client.stdin("tty")
        os.write(descriptor, b"word\n")
        os.close(descriptor)
        assert (await world.event("exit", "tty"))["status"] == 6
        assert (await world.event("exit", "writer"))["status"] == 5
        await world.event("drained", "writer")
        await world.event("drained", "tty")
        assert world.log("writer")[1] == b"".join(b"line %d\n" % i for i in range(3000))
        assert b"got word\r\n" in world.log("tty")[1]
        started = await world.client.exec("stays", "e", process("true"), tty=False, stdin=False, output=True)
        os.close(started.stdout)
        os.close(started.stderr)
        assert (await world.event("exit", "stays", "e"))["status"] == 0
        await world.client.forget("stays", "e")
        await world.run("after", "true")
        assert (await world.event("exit", "after"))["status"] == 0
        await world.client.signal("stays", signal.SIGKILL)
        assert (await world.event("exit", "stays"))["status"] == 137
    go(layout, rootfs, scenario)


def test_exits_while_the_daemon_is_away_are_told_to_the_next(layout, rootfs):
    async def first():
        world = World(layout, rootfs)
        world.changed = asyncio.Event()
        world.client = await ZygoteClient.connect(layout, world.on_event)
        await world.run("c", "sh", "-c", "sleep 0.1; echo late; exit 11")
        world.client.close()

    asyncio.run(first())
    time.sleep(0.3)

    async def scenario(world):
        world.made.append("c")
        for _ in range(3000):
            entry, = await world.client.list()
            if entry["drained"] and entry["state"] == "exited":
                break
            await asyncio.sleep(0.02)
        assert (entry["state"], entry["status"], entry["drained"]) == ("exited", 11, True)
        assert world.log("c")[1] == b"late\n"
    go(layout, rootfs, scenario)


@pytest.mark.parametrize("killed", [False, True])
def test_told_to_start_while_it_still_mounts(layout, rootfs, killed):
    """The word waits for it; whoever kills the zygote meanwhile has it die with that, and start anew."""
    if "freezer" not in hierarchies().v1:
        pytest.skip("machine: no freezer that an init joins, to hold it up in the middle of its steps")

    async def scenario(world):
        zygote = role(layout, "zygote")
        cgroup.create(f"{GROUPS}/c", {})
        cgroup.freeze(f"{GROUPS}/c")  # in which it stops as it enters its group
        await world.create("c", "sh", "-c", "exit 7")
        starting = asyncio.ensure_future(world.client.start("c"))
        for _ in range(3000):
            if (await world.client.list())[0]["state"] == "starting":
                break
            await asyncio.sleep(0.01)
        assert not starting.done()
        if killed:
            os.kill(zygote, signal.SIGKILL)
            with pytest.raises(StartLost):
                await starting
            await world.run("c", "sh", "-c", "exit 7")
        else:
            cgroup.thaw(f"{GROUPS}/c")
            await starting
        assert (await world.event("exit", "c", timeout=60))["status"] == 7
    go(layout, rootfs, scenario)


def test_nothing_goes_on_where_the_folder_is_gone(layout):
    async def scenario():
        client = await ZygoteClient.connect(layout, lambda _event: None)
        zygote = role(layout, "zygote")
        client.close()
        shutil.rmtree(layout.exec_root)
        os.kill(zygote, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while left := processes(layout):
            assert time.monotonic() < deadline, left
            await asyncio.sleep(0.02)

    asyncio.run(scenario())


def test_ends_that_nobody_can_ask_for_any_more_are_let_go(layout, rootfs):
    """The folder of a daemon that is gone for good: half a minute later nothing of it runs."""
    async def scenario():
        world = World(layout, rootfs)
        world.changed = asyncio.Event()
        world.client = await ZygoteClient.connect(layout, world.on_event)
        await world.run("c", "true")
        await world.event("exit", "c")
        world.client.close()
        for _ in range(3000):
            if not any(os.path.isdir(place) for place in cgroup.folders(f"{GROUPS}/c")):
                break
            await asyncio.sleep(0.02)
        shutil.rmtree(layout.exec_root)
        deadline = time.monotonic() + 120
        while left := processes(layout):
            assert time.monotonic() < deadline, left
            await asyncio.sleep(0.1)
        for place in cgroup.folders(GROUPS):
            if os.path.isdir(place):
                os.rmdir(place)

    asyncio.run(scenario())
