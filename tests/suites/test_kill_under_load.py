"""kill -9 of daemon, zygote, pump and anchor at any moment, while containers start, write, end and go all the time.

What was acknowledged is there afterwards, with its real exit code and every line of its output; what was not is absent
or can be used. A few rounds each in CI; CORTEN_ROUNDS=100 for as many as anybody wants.
"""

import http.client
import os
import random
import re
import signal
import threading
import time

import pytest

ROUNDS = int(os.environ.get("CORTEN_ROUNDS", "3"))
WORKERS = 3
PATIENCE_S = 60
WRITER = "i=0; while :; do echo line $i; i=$((i+1)); [ $((i % 40)) = 0 ] && usleep 20000; done"
LOST = (OSError, http.client.HTTPException)


def until(condition, what):
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"it does not happen: {what}"
        time.sleep(0.01)
    return found


class Job:
    """One container's life as a client lives it; `acknowledged` are the steps that were answered with success."""

    def __init__(self, number):
        self.name, self.code = f"job{number}", number % 120 + 1
        self.output = f"begin {number}\nend {number}\n"
        self.pause_us = random.randrange(30_000)
        self.asked_to_remove = False
        self.acknowledged = []
        self.refused = []

    def ask(self, engine, method, url, good, body=None):
        answer = engine.api(method, url, body)
        if answer.status in good:
            self.acknowledged.append((method, url))
        else:
            self.refused.append((method, url, answer.status, answer.body))
        return answer.status in good

    def live(self, engine):
        """All of it; where the connection is lost, the rest is `settle`'s."""
        first, last = self.output.splitlines()
        script = f"echo {first}; usleep {self.pause_us}; echo {last}; exit {self.code}"
        body = {"Image": "busybox", "Cmd": ["sh", "-c", script], "HostConfig": {"NetworkMode": "none"}}
        if self.ask(engine, "POST", f"/containers/create?name={self.name}", (201,), body):
            if self.ask(engine, "POST", f"/containers/{self.name}/start", (204,)):
                self.finish(engine)

    def finish(self, engine):
        assert engine.wait(self.name) == self.code, self.trace()
        assert engine.logs(self.name) == self.output, self.trace()
        self.remove(engine)

    def remove(self, engine):
        self.asked_to_remove = True
        assert self.ask(engine, "DELETE", f"/containers/{self.name}", (204, 404)), self.trace()

    def settle(self, engine):
        """After the fault: whatever was acknowledged holds, and what is there can be used."""
        answer = engine.api("GET", f"/containers/{self.name}/json")
        done = [url.rpartition("/")[2] for _method, url in self.acknowledged]
        if answer.status == 404:
            assert "create" not in str(done[:1]) or self.asked_to_remove, self.trace()
            return
        state = answer.json["State"]
        if "start" not in done and state["Status"] == "created":
            assert engine.api("POST", f"/containers/{self.name}/start").status == 204, self.trace()
        elif "start" not in done and not state["Running"] and state["ExitCode"] in (125, 128, 255):
            # its start was never answered, and the program did not run
            assert engine.logs(self.name) == "", self.trace()
            assert engine.api("POST", f"/containers/{self.name}/start").status == 204, self.trace()
        self.finish(engine)

    def trace(self):
        return f"{self.name}, to end with {self.code}: acknowledged {self.acknowledged}, refused {self.refused}"


class Load:
    """Clients that run one job after the other until told to stop."""

    def __init__(self, engine, numbers):
        self.engine, self.numbers = engine, numbers
        self.over = threading.Event()
        self.unsettled, self.wrong = [], []
        self.done = 0
        self.threads = [threading.Thread(target=self.work) for _ in range(WORKERS)]
        for thread in self.threads:
            thread.start()

    def work(self):
        while not self.over.is_set():
            job = Job(next(self.numbers))
            try:
                job.live(self.engine)
            except LOST:
                self.unsettled.append(job)
                self.over.wait(0.02)
            except AssertionError as error:
                self.wrong.append(error)
            else:
                if job.refused:
                    self.unsettled.append(job)
                self.done += 1

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join()


def kill(engine, victim):
    pid = until(lambda: engine.pid_of(victim), f"there is a {victim}")
    if victim == "daemon":
        engine.kill()
        engine.start()
        return
    os.kill(pid, signal.SIGKILL)
    until(lambda: engine.pid_of(victim) not in (0, pid), f"another {victim}")


class Follower(threading.Thread):
    """`logs --follow` of a container, from its first line on."""

    def __init__(self, engine, name):
        super().__init__()
        self.engine, self.name_, self.data = engine, name, b""

    def run(self):
        self.data = self.engine.api("GET", f"/containers/{self.name_}/logs?follow=1&stdout=1&stderr=1", timeout=600).body

    def text(self):
        text, data = b"", self.data
        while len(data) >= 8:
            size = int.from_bytes(data[4:8], "big")
            text, data = text + data[8:8 + size], data[8 + size:]
        return text.decode()


@pytest.mark.timeout(300 + 10 * ROUNDS)
@pytest.mark.parametrize("victim", ["daemon", "zygote", "pump", "anchor"])
def test_nothing_is_lost(own_engine, victim):
    engine = own_engine
    engine.run("sleep", "100000", name="steady")
    before = engine.inspect("steady")["State"]
    writer = engine.run("sh", "-c", WRITER, name="writer")
    follower = Follower(engine, "writer")
    if victim != "daemon":
        follower.start()
    numbers = iter(range(1, 10 ** 9))
    lives = 0
    for _ in range(ROUNDS):
        load = Load(engine, numbers)
        time.sleep(random.uniform(0, 0.15))
        try:
            kill(engine, victim)
            time.sleep(random.uniform(0, 0.05))
        finally:
            load.stop()
        assert not load.wrong, load.wrong
        for job in load.unsettled:
            job.settle(engine)
        lives += load.done
        answer = engine.docker("exec", "steady", "sh", "-c", "echo inside; exit 3")
        assert (answer.stdout, answer.returncode) == ("inside\n", 3), answer
        names = {row["Names"][0] for row in engine.api("GET", "/containers/json?all=1").json}
        assert names == {"/steady", "/writer"}
    assert engine.inspect("steady")["State"]["StartedAt"] == before["StartedAt"]
    assert engine.inspect("steady")["State"]["Pid"] == before["Pid"]
    assert engine.inspect(writer)["State"]["Running"]
    assert engine.api("POST", "/containers/writer/kill").status == 204
    assert engine.wait("writer") == 137
    text = engine.logs("writer")
    assert [int(n) for n in re.findall(r"^line (\d+)$", text, re.M)] == list(range(text.count("\n")))
    if victim != "daemon":
        follower.join()
        assert follower.text() == text
    assert lives
