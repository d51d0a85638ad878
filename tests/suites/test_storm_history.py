"""Many clients on the same containers at once: every answer is explained by some order of what they did, nothing is left.

Thirty-two clients, four on each of eight names, make, start, stop, kill, inspect and remove. Each operation is kept with
its begin, its end and its answer. Afterwards an order is looked for in which a container as docker describes it would
have given these answers (Wing and Gong, Testing and Verifying Concurrent Objects, 1993): an operation's steps lie
between its begin and its end. CORTEN_STORM=500 for as many containers a round as anybody wants.
"""

import os
import random
import threading
import time

import pytest
from leftovers import left_behind, owned

CONTAINERS = int(os.environ.get("CORTEN_STORM", "40"))  # started and stopped in each of the rounds
ROUNDS, NAMES, CLIENTS_A_NAME = 3, 8, 4
ABSENT, CREATED, RUNNING, EXITED, REMOVING = "absent", "created", "running", "exited", "removing"

# How an operation goes on: step -> state -> [(answer, next step or None at its end, state after)]. `gone` is a container
# that the operation has found and somebody has removed since; an operation may find either one, where two steps differ.
GONE = [(404, None, ABSENT), (409, None, ABSENT)]
HELD = [(409, None, REMOVING)]
STEPS = {
    "create": {ABSENT: [(201, None, CREATED)], **{s: [(409, None, s)] for s in (CREATED, RUNNING, EXITED, REMOVING)}},
    "start": {ABSENT: [(404, None, ABSENT)], **{s: [(0, "starting", s)] for s in (CREATED, RUNNING, EXITED, REMOVING)}},
    "starting": {ABSENT: GONE, REMOVING: HELD, RUNNING: [(304, None, RUNNING)],
                 CREATED: [(204, None, RUNNING)], EXITED: [(204, None, RUNNING)]},
    "stop": {ABSENT: [(404, None, ABSENT)], RUNNING: [(0, "stopping", RUNNING)],
             **{s: [(304, None, s)] for s in (CREATED, EXITED, REMOVING)}},
    "stopping": {RUNNING: [(204, None, EXITED)], **{s: [(204, None, s)] for s in (ABSENT, CREATED, EXITED, REMOVING)}},
    "kill": {ABSENT: [(404, None, ABSENT)], RUNNING: [(0, "killing", RUNNING)],
             **{s: [(409, None, s)] for s in (CREATED, EXITED, REMOVING)}},
    "killing": {RUNNING: [(204, None, EXITED)],
                **{s: [(204, None, s), (409, None, s)] for s in (ABSENT, CREATED, EXITED, REMOVING)}},
    "remove": {ABSENT: [(404, None, ABSENT)], RUNNING: [(0, "taking", EXITED), (0, "taking", RUNNING)],
               **{s: [(0, "taking", s)] for s in (CREATED, EXITED, REMOVING)}},
    "taking": {ABSENT: [(204, None, ABSENT)], RUNNING: [(0, "taking", EXITED), (409, None, RUNNING)],
               CREATED: [(0, "gone", REMOVING)], EXITED: [(0, "gone", REMOVING)],
               REMOVING: [(0, "taking", REMOVING), (204, None, REMOVING), (409, None, REMOVING)]},
    "gone": {s: [(204, None, ABSENT)] for s in (REMOVING, ABSENT)},
    "inspect": {ABSENT: [(404, None, ABSENT)], **{s: [(s, None, s)] for s in (CREATED, RUNNING, EXITED, REMOVING)}},
}


class Operation:
    """One request: what was asked, when it began and ended, and what was answered."""

    def __init__(self, kind, begin, end, answer):
        self.kind, self.begin, self.end, self.answer = kind, begin, end, answer

    def __repr__(self):
        return f"{self.begin:.4f}-{self.end:.4f} {self.kind} -> {self.answer}"


def explained(history, state=ABSENT):
    """Whether some order of the operations' steps gives these answers."""
    operations = sorted(history, key=lambda operation: operation.begin)
    seen = set()
    stack = [(tuple(operation.kind for operation in operations), state)]
    while stack:
        steps, state = stack.pop()
        if (steps, state) in seen:
            continue
        seen.add((steps, state))
        left = [n for n, step in enumerate(steps) if step is not None]
        if not left:
            return True
        soonest = min(operations[n].end for n in left)  # whatever begins after this one's end comes after it
        for number in left:
            if operations[number].begin > soonest:
                break
            for answer, step, after in STEPS[steps[number]].get(state, ()):
                if step is None and answer != operations[number].answer:
                    continue
                stack.append(((*steps[:number], step, *steps[number + 1:]), after))
    return False


REQUESTS = {
    "create": ("POST", "/containers/create?name={name}"), "start": ("POST", "/containers/{name}/start"),
    "stop": ("POST", "/containers/{name}/stop?t=0"), "kill": ("POST", "/containers/{name}/kill"),
    "remove": ("DELETE", "/containers/{name}?force=1"), "inspect": ("GET", "/containers/{name}/json"),
}
BODY = {"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "none"}}
WEIGHTS = {"create": 5, "start": 6, "stop": 3, "kill": 2, "remove": 3, "inspect": 4}


def ask(engine, name, kind):
    method, url = REQUESTS[kind]
    begin = time.monotonic()
    answer = engine.api(method, url.format(name=name), BODY if kind == "create" else None)
    end = time.monotonic()
    said = answer.json["State"]["Status"] if kind == "inspect" and answer.status == 200 else answer.status
    assert answer.status < 500, (kind, name, answer.body)
    return Operation(kind, begin, end, said)


def storm(engine, starts):
    """Histories by name, with at least that many containers started in all."""
    histories = {f"storm{number}": [] for number in range(NAMES)}
    failures, started = [], [0]

    def work(name, choices):
        try:
            while started[0] < starts and not failures:
                operation = ask(engine, name, choices.choices(list(WEIGHTS), list(WEIGHTS.values()))[0])
                histories[name].append(operation)
                started[0] += operation.kind == "start" and operation.answer == 204
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name, random.Random()))
               for name in histories for _ in range(CLIENTS_A_NAME)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    return histories


@pytest.mark.timeout(300 + CONTAINERS)
def test_every_answer_is_explained_and_nothing_is_left(own_engine):
    own_engine.wait(own_engine.run("true", name="first"))
    own_engine.clear()
    before = owned(own_engine)
    for _ in range(ROUNDS):
        for name, history in storm(own_engine, CONTAINERS).items():
            history.append(ask(own_engine, name, "inspect"))
            assert explained(history), (name, sorted(history, key=lambda operation: operation.begin))
        for row in own_engine.api("GET", "/containers/json?all=1").json:
            assert own_engine.api("DELETE", f"/containers/{row['Id']}?force=1").status == 204
        assert left_behind(own_engine, before, patience_s=60) == {}


def test_the_search_knows_what_cannot_be():
    one, two = Operation("create", 0, 1, 201), Operation("start", 2, 3, 204)
    assert explained([one, two])
    assert not explained([one, Operation("create", 0.5, 3, 201)])  # nobody can make the same name twice
    assert not explained([one, two, Operation("inspect", 4, 5, CREATED)])  # a start that was answered has been
    assert explained([one, two, Operation("kill", 4, 9, 204), Operation("inspect", 5, 6, RUNNING),
                      Operation("inspect", 7, 8, EXITED)])
    assert not explained([one, two, Operation("kill", 4, 9, 204), Operation("inspect", 5, 6, EXITED),
                          Operation("inspect", 7, 8, RUNNING)])
