"""Five hundred starts and ends, eight at once: ports, addresses, links, rules, namespaces and descriptors all come back."""

import os
import sqlite3
import threading
import time
from contextlib import closing

import pytest

from corten.linux.nft_expressions import NFPROTO_BRIDGE, NFPROTO_INET
from corten.linux.nftables import Nftables
from corten.network.ruleset import BRIDGE_SETS

pytestmark = pytest.mark.slow
CYCLES, AT_ONCE = 500, 8


def state(engine):
    """What could be left of a container: kind -> what there is of it."""
    table = f"corten-{engine.bridge}"
    with Nftables() as kernel:
        sets = {name: kernel.elements(table, name, NFPROTO_BRIDGE if name in BRIDGE_SETS else NFPROTO_INET)
                for name in ("ports", "ports_any", "ports6", "ports6_any", "open", *BRIDGE_SETS) if name != "ends"}
        ends = len(kernel.elements(table, "ends", NFPROTO_BRIDGE))
    bridges = [engine.bridge, *(f"br-{one['Id'][:12]}" for one in engine.api("GET", "/networks").json
                                if one["Driver"] == "bridge" and one["Name"] != "bridge")]
    ports = [f"/sys/class/net/{bridge}/brif" for bridge in bridges]
    links = [link for folder in ports if os.path.exists(folder) for link in os.listdir(folder)]
    descriptors = os.listdir(f"/proc/{engine.process.pid}/fd")
    return {**{name: len(found) for name, found in sets.items()}, "links": len(links),
            "descriptors": len(descriptors) // 60, "ends": ends // (4 * AT_ONCE),
            "folders": len(os.listdir(f"{engine.folder}/data/containers"))}


def create(engine, network):
    return engine.create("sleep", "1000", ExposedPorts={"80/tcp": {}}, HostConfig={
        "NetworkMode": network, "PortBindings": {"80/tcp": [{"HostPort": ""}], "53/udp": [{"HostIp": "127.0.0.1"}]}})


def post(engine, container, verb):
    answer = engine.api("POST", f"/containers/{container}/{verb}")
    assert answer.status in (200, 204), answer.body


def cycle(engine, number, network, container=""):
    """One start and end; every fifth container is removed and made anew. The container for the next cycle."""
    container = container or create(engine, network)
    post(engine, container, "start")
    if number % 10 == 0:
        ports = engine.inspect(container)["NetworkSettings"]["Ports"]
        assert int(ports["80/tcp"][0]["HostPort"]) >= 32768
    if number % 5:
        post(engine, container, "kill")
        post(engine, container, "wait")
        return container
    answer = engine.api("DELETE", f"/containers/{container}?force=1")
    assert answer.status == 204, answer.body
    return ""


def storm(engine, count, network):
    """That many cycles by threads; the failures."""
    numbers, failures, lock = iter(range(count)), [], threading.Lock()

    def work():
        container = ""
        while not failures:
            with lock:
                number = next(numbers, None)
            try:
                if number is None:
                    if container:
                        engine.api("DELETE", f"/containers/{container}?force=1")
                    return
                container = cycle(engine, number, network, container)
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


def settled(engine, limits=None):
    """The state once no link is left, and no kind counts more than `limits`; the last one seen after a minute.

    A veth pair outlives its namespace for a moment, by the kernel's doing; the next change takes its name out of the sets.
    """
    deadline = time.monotonic() + 60
    while True:
        cycle(engine, 5, "storm")
        for _ in range(50):
            found = state(engine)
            grown = {kind: count for kind, count in found.items() if count > (limits or found)[kind]}
            if (not found["links"] and not grown) or time.monotonic() > deadline:
                return found, grown
            time.sleep(0.02)


def test_nothing_is_left_of_five_hundred_containers(leaks, own_engine):
    made = own_engine.api("POST", "/networks/create", {"Name": "storm", "EnableIPv6": True})
    assert made.status == 201, made.body
    assert storm(own_engine, 2 * AT_ONCE, "storm") == []
    before, _ = settled(own_engine)
    assert storm(own_engine, CYCLES, "storm") == []
    after, grown = settled(own_engine, before)
    assert (after["links"], grown) == (0, {}), (before, after)
    assert own_engine.api("DELETE", "/networks/storm").status == 204
    own_engine.stop()
    with closing(sqlite3.connect(f"{own_engine.folder}/data/corten.db")) as db:
        assert [db.execute(f"SELECT * FROM {name}").fetchall() for name in ("lease", "port")] == [[], []]
