"""Pages whose commands are run: ```sh blocks, each with what it prints in the ```text block that follows it."""

import re
import subprocess

BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = "~ end of block ~"


def steps(page):
    """[(commands, expected lines)] of a page."""
    found = []
    for kind, text in BLOCK.findall(page.read_text()):
        if kind == "sh":
            found.append((text, []))
        else:
            found[-1] = found[-1][0], text.splitlines()
    return found


def fits(expected, told):
    """Whether a line is as the page says; `…` stands for anything, more than one space for any."""
    words = ["\\s+".join(re.escape(word) for word in part.split()) for part in expected.split("…")]
    return re.fullmatch(".*".join(f"\\s*{part}\\s*" for part in words), told.rstrip()) is not None


class Shell:
    """One bash that runs block after block; what a block prints is what comes before a mark."""

    def __init__(self, folder, environment):
        self.process = subprocess.Popen(["bash", "--norc"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        text=True, cwd=folder, env=environment)

    def run(self, commands):
        self.process.stdin.write(f"{{ {commands.rstrip()}\n}} </dev/null\necho; echo '{MARK}'\n")
        self.process.stdin.flush()
        told = []
        while (line := self.process.stdout.readline()) and line.strip() != MARK:
            told.append(line.rstrip("\n"))
        return [line for line in told if line]

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(60)


def walk(page, shell):
    """Run a page from top to bottom. Raises AssertionError where it prints something else than the page says."""
    for commands, expected in steps(page):
        told = shell.run(commands)
        place = 0
        for line in told:
            if place < len(expected) and fits(expected[place], line):
                place += 1
        assert place == len(expected), f"{page.name}: after\n{commands}\nexpected\n{expected[place]}\ngot\n" + "\n".join(told)
