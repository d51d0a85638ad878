"""A process that pulls or pushes and is killed by itself at its k-th step; told by lines on stdin.

    line: JSON {"verb", "root", "name", "tag", "at"}; answer: a line with the number of the signal that ended it, 0 for none.

Steps of a pull are writes to the disk: system calls that change the data root and statements that change the database;
a push has its requests to the registry besides. It dies just before the k-th, which is just after the one before. One
child a line, forked from a process that has everything imported already.
"""

import asyncio
import json
import os
import signal
import sys

import aiohttp  # noqa: F401  imported before the fork
from distribution_fixture import Local

from corten.engine.db import Database
from corten.image import push
from corten.linux.libc import check, libc
from corten.linux.process import PR_SET_CHILD_SUBREAPER
from corten.registry.settings import Settings
from corten.registry.transport import Transport

SYSTEM_CALLS = ("link", "rename", "pwrite", "mkdir", "unlink", "ftruncate", "rmdir")


def count(at):
    """Wrap everything that writes; what is called at each step."""
    seen = 0

    def step():
        nonlocal seen
        seen += 1
        if seen == at:
            os.kill(os.getpid(), signal.SIGKILL)

    def wrapped(function):
        def call(*arguments, **keywords):
            step()
            return function(*arguments, **keywords)
        return call

    for name in SYSTEM_CALLS:
        setattr(os, name, wrapped(getattr(os, name)))
    for name in ("put", "delete"):
        setattr(Database, name, wrapped(getattr(Database, name)))
    return step


def count_requests(step):
    """Wrap what is sent, too."""
    once = Transport._once

    async def counted(self, *arguments):
        step()
        return await once(self, *arguments)

    Transport._once = counted


def work(order):
    settings = Settings()
    settings.backoff_s = 0.01
    local = Local(order["root"], settings)
    if order["verb"] == "push":
        push._STREAMED_BYTES = 1 << 16
        count_requests(count(order["at"]))
        _, error = local.push(order["name"], order["tag"])
    else:
        count(order["at"])
        _, error = local.pull(order["name"], order["tag"])
    if error:
        print(error, file=sys.stderr)
        os._exit(1)
    os._exit(0)


def ends_of_all():
    """pid -> wait status of the children and of what they leave behind, once all have ended."""
    ends = {}
    while True:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            return ends
        ends[pid] = status


def main():
    check(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl(PR_SET_CHILD_SUBREAPER)")  # workers outlive who is killed
    asyncio.run(asyncio.sleep(0))
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            work(json.loads(line))
        status = ends_of_all()[child]
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            sys.exit("it failed")
        print(os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, flush=True)


if __name__ == "__main__":
    main()
