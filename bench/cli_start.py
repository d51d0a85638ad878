"""How long the command line takes, beside docker's: wall and CPU time of whole commands against one engine.

    python bench/cli_start.py unix:///run/corten/corten.sock [--runs 30] [command ...]
"""

import os
import resource
import shutil
import sys
import time

REPOSITORY = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "src")
PROGRAM = f"import sys; sys.path.insert(0, {REPOSITORY!r}); from corten.cli.main import start; start()"


def measure(command, runs):
    """(best, median) wall and best CPU milliseconds of a command with its output thrown away."""
    walls, cpus = [], []
    null = os.open(os.devnull, os.O_RDWR)
    for _ in range(runs):
        before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        pid = os.posix_spawnp(command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, null, 1)])
        os.waitpid(pid, 0)
        walls.append(time.perf_counter() - begin)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    os.close(null)
    walls.sort()
    return walls[0] * 1e3, walls[len(walls) // 2] * 1e3, min(cpus) * 1e3


def main():
    words = sys.argv[1:]
    runs = 30
    if "--runs" in words:
        at = words.index("--runs")
        runs = int(words[at + 1])
        del words[at:at + 2]
    if not words:
        raise SystemExit(__doc__)
    host, command = words[0], words[1:] or ["ps"]
    programs = {"python -IS": [sys.executable, "-IS", "-c", "pass"],
                "corten": [sys.executable, "-IS", "-c", PROGRAM, "-H", host, *command]}
    if shutil.which("docker"):
        programs["docker"] = ["docker", "-H", host, *command]
    print(f"{'':12} {'best':>8} {'median':>8} {'cpu':>8}  ms, {' '.join(command)}")
    for name, program in programs.items():
        print("{:12} {:8.1f} {:8.1f} {:8.1f}".format(name, *measure(program, runs)))


if __name__ == "__main__":
    main()
