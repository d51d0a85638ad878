"""Trust when processes die: what is refused stays refused, what flows goes on or comes back by itself."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from gateway_world import World, wait_until
from mesh_world import Asking, Shop

from corten.linux.nftables import Nftables, Transaction
from corten.network.fence import TABLE


@pytest.fixture
def own_shop():
    """On a daemon of its own, that may be killed."""
    world = World().start()
    made = None
    try:
        made = Shop(world.load_busybox())
        yield made
    finally:
        if made:
            if world.process is None:
                world.start()
            made.close()
        world.close()


@pytest.mark.parametrize("level", ["half", "zero"])
def test_envoy_killed_fails_closed_and_heals(shop, level):
    orders = shop.service("orders", level, "web: /x")
    shop.run("web", level)
    shop.service("plain")
    url = f"http://{orders}:8080/x"
    shop.until("200", "web", url)
    envoy = shop.world.status()["Pid"]
    os.kill(envoy, signal.SIGSTOP)  # nobody answers, and nobody is let past
    assert [shop.curl(name, url, "-m", "1")[0] for name in ("web", "plain", "")] == ["refused"] * 3
    os.kill(envoy, signal.SIGKILL)
    for _ in range(5):
        assert [shop.curl(name, url)[0] for name in ("plain", "")] == ["refused"] * 2
    shop.until("200", "web", url)
    assert shop.world.status()["Pid"] not in (0, envoy)
    assert shop.curl("plain", url)[0] == "refused"


def test_without_daemon_and_envoy_nothing_passes_and_both_come_back(own_shop):
    shop = own_shop
    half, zero = shop.service("half", "half", "web: /x"), shop.service("zero", "zero", "web: /x")
    shop.run("web", "half")
    for address in (half, zero):
        shop.until("200", "web", f"http://{address}:8080/x")
    envoy = shop.world.status()["Pid"]
    asking = [Asking(shop, "web", address, "/x") for address in (half, zero)]
    for end in ("kill", "stop"):
        getattr(shop.world, end)()
        for one in asking:
            one.more(20)
        shop.world.start()
        assert shop.world.status()["Pid"] == envoy
    for one in asking:
        one.more(20)
    assert [one.stop() for one in asking] == [[], []]
    shop.world.kill()
    os.kill(envoy, signal.SIGKILL)
    for address in (half, zero):
        for name in ("web", ""):
            assert shop.curl(name, f"http://{address}:8080/x")[0] == "refused"
    shop.world.start()
    for address in (half, zero):
        shop.until("200", "web", f"http://{address}:8080/x")
        assert shop.curl("", f"http://{address}:8080/x")[0] == "refused"


def test_a_daemon_answers_while_envoy_cannot_be_told_and_tells_it_later(own_shop):
    shop = own_shop
    orders = shop.service("orders", "zero", "web: /x")
    shop.run("web", "zero")
    gone = shop.run("gone", "zero")
    shop.until("200", "web", f"http://{orders}:8080/x")
    envoy = shop.world.status()["Pid"]
    shop.world.kill()
    os.kill(envoy, signal.SIGSTOP)
    try:
        os.kill(shop.pids["gone"], signal.SIGKILL)
        shop.world.start()
        wait_until(lambda: not shop.world.inspect(gone)["State"]["Running"], 30)
        assert shop.world.status()["Pid"] == envoy
        wait_until(lambda: "the gateway stays as it was" in Path(shop.world.log).read_text(), 60)
    finally:
        os.kill(envoy, signal.SIGCONT)
    listeners = Path(shop.world.folder, "run/gateway/lds.json")
    wait_until(lambda: gone[:12] not in listeners.read_text(), 60)
    shop.until("200", "web", f"http://{orders}:8080/x")
    assert shop.world.status()["Pid"] == envoy


def test_a_fence_that_stands_is_left_alone_and_another_takes_its_place(own_shop):
    shop = own_shop
    orders = shop.service("orders", "zero", "web: /x")
    shop.run("web", "zero")
    namespaces = {name: os.open(f"/proc/{shop.pids[name]}/ns/net", os.O_RDONLY) for name in ("orders", "web")}

    def marked():
        found = set()
        for name, namespace in namespaces.items():
            with Nftables(namespace) as nftables:
                if any((chain.table, chain.name) == (TABLE, "mark") for chain in nftables.chains()):
                    found.add(name)
        return found

    try:
        for namespace in namespaces.values():
            change = Transaction(TABLE)
            change.chain("mark")
            with Nftables(namespace) as nftables:
                nftables.commit(change)
        shop.world.kill()
        shop.world.start()
        shop.run("late", "zero")  # by then all has been looked at again
        assert marked() == {"orders", "web"}
        shop.world.applied({"kind": "Trust", "name": "t", "services": ["web"], "level": "zero", "out": ["192.0.2.1:443"]})
        assert marked() == {"orders"}
        shop.until("200", "web", f"http://{orders}:8080/x")
        assert shop.curl("", f"http://{orders}:8080/x")[0] == "refused"
    finally:
        for namespace in namespaces.values():
            os.close(namespace)


def test_the_zygote_killed_changes_nothing(own_shop):
    shop = own_shop
    orders = shop.service("orders", "zero", "web: /x")
    shop.run("web", "zero")
    url = f"http://{orders}:8080/x"
    shop.until("200", "web", url)
    zygote = shop.world.pid_of("zygote")
    os.kill(zygote, signal.SIGKILL)
    wait_until(lambda: shop.world.pid_of("zygote") not in (0, zygote), 60)
    shop.until("200", "web", url)
    assert shop.curl("", url)[0] == "refused"
    shop.run("late", "zero")
    shop.until("403", "late", url)


def test_a_listener_that_cannot_be_does_not_stop_the_others(own_shop):
    shop = own_shop
    orders = shop.service("orders", "zero", "web: /x")
    shop.run("web", "zero")
    lost = shop.run("lost", "zero")
    shop.until("200", "web", f"http://{orders}:8080/x")
    shop.world.kill()
    subprocess.run(["umount", f"{shop.world.folder}/run/mesh/{lost[:12]}"], check=True)
    os.kill(int(subprocess.run(["pgrep", "-f", f"{shop.world.folder}/run/gateway/envoy.json"], capture_output=True, text=True,
                               check=True).stdout.split()[0]), signal.SIGKILL)
    shop.world.start()
    shop.until("200", "web", f"http://{orders}:8080/x")
    shop.until("403", "lost", f"http://{orders}:8080/x")  # found again by its process


def test_who_goes_leaves_nothing(shop):
    orders = shop.service("orders", "zero", "web: /x")
    web = shop.run("web", "zero")
    shop.until("200", "web", f"http://{orders}:8080/x")
    held = f"{shop.world.folder}/run/mesh/{web[:12]}"
    assert os.path.exists(held)
    namespace = os.stat(held).st_ino
    shop.world.api("DELETE", f"/containers/{web}?force=1")
    wait_until(lambda: not os.path.exists(held), 90)
    with open("/proc/self/mountinfo") as file:
        assert f"net:[{namespace}]" not in file.read()
    listeners = open(f"{shop.world.folder}/run/gateway/lds.json").read()
    assert web[:12] not in listeners
    shop.run("web", "zero")
    shop.until("200", "web", f"http://{orders}:8080/x")


def test_nothing_is_left_at_the_end():
    world = World().start()
    shop = None
    try:
        shop = Shop(world.load_busybox())
        orders = shop.service("orders", "half", "web: /x")
        shop.run("web", "half")
        shop.until("200", "web", f"http://{orders}:8080/x")
        envoy = world.status()["Pid"]
        shop.close()
        wait_until(lambda: not os.path.exists(f"/proc/{envoy}"), 90)
        wait_until(lambda: os.listdir(f"{world.folder}/run/mesh") == [], 90)
    finally:
        world.close()
    with open("/proc/self/mountinfo") as file:
        assert world.folder not in file.read()
