"""A process that pulls and is killed by itself at its k-th write to the disk; told by lines on stdin.

    line: JSON {"root", "name", "tag", "at"}; answer: a line with the number of the signal that ended the pull, 0 for none.

Writes are system calls that change the data root and statements that change the database; it dies just before the
k-th, which is just after the one before. One child a line, forked from a process that has everything imported already.
"""

import asyncio
import json
import os
import signal
import sys

import aiohttp  # noqa: F401  imported before the fork
from distribution_fixture import Local

from corten.engine.db import Database
from corten.registry.settings import Settings

SYSTEM_CALLS = ("link", "rename", "pwrite", "mkdir", "unlink", "ftruncate", "rmdir")


def count(at):
    """Wrap everything that writes."""
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


def pull(order):
    settings = Settings()
    settings.backoff_s = 0.01
    local = Local(order["root"], settings)
    count(order["at"])
    _, error = local.pull(order["name"], order["tag"])
    if error:
        print(error, file=sys.stderr)
        os._exit(1)
    os._exit(0)


def main():
    asyncio.run(asyncio.sleep(0))
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            pull(json.loads(line))
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            sys.exit("the pull failed")
        print(os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, flush=True)


if __name__ == "__main__":
    main()
