"""BuildKit's own fixtures of its Dockerfile parser and shell words, read by corten's: both must come to the same.

    buildkit_parser.py CHECKOUT      # a checkout of moby/buildkit, or its folder frontend/dockerfile

Prints what differs and the sums; exits 1 when anything does. Nothing is fetched, nothing of it is kept.
"""

import json
import re
import sys
from pathlib import Path

from corten.base.errors import InvalidArgument
from corten.build.dockerfile import parse
from corten.build.instructions import read_plan
from corten.build.line import Instruction
from corten.build.variables import Expander

ENVIRONMENT = {"PWD": "/home", "SHELL": "bash", "KOREAN": "한국어", "NULL": ""}


def quoted(text: str) -> str:
    """As Go's strconv.Quote prints it."""
    return re.sub(r"\\u00([01][0-9a-f])", r"\\x\1", json.dumps(text, ensure_ascii=False))


def dump(instruction: Instruction) -> str:
    """An instruction as the parser's `Dump` prints it."""
    text = instruction.word.lower()
    if instruction.flags:
        text += " [" + " ".join(quoted(flag) for flag in instruction.flags) + "]"
    if instruction.inner:
        return f"{text} ({dump(instruction.inner)})"
    return text + "".join(" " + quoted(argument) for argument in instruction.arguments)


def normal(text: str) -> str:
    return re.sub(r"\s*\n\s*", "\n", text.strip())


def parsed(folder: Path) -> list[str]:
    """Names of the fixtures that differ."""
    wrong = []
    for fixture in sorted(folder.glob("testfiles/*")):
        found = "\n".join(f"({dump(one)})" for one in parse((fixture / "Dockerfile").read_bytes()).instructions)
        if normal(found) != normal((fixture / "result").read_text()):
            wrong.append(fixture.name)
            print(f"--- {fixture.name}\n{found}")
    for fixture in sorted(folder.glob("testfiles-negative/*")):
        try:
            read_plan(parse((fixture / "Dockerfile").read_bytes()))
        except InvalidArgument:
            continue
        wrong.append(fixture.name)
        print(f"--- {fixture.name}: was not refused")
    return wrong


def words(folder: Path) -> tuple[int, list[str]]:
    """How many words and lines of words there are, and those that come to something else."""
    total, wrong = 0, []
    for line in (folder / "envVarTest").read_text().splitlines():
        if not line or line.startswith(("#", "W|")):
            continue
        _, source, expected = (part.strip() for part in line.split("|", 2))
        total += 1
        try:
            found = Expander(ENVIRONMENT).word(source)
        except InvalidArgument:
            found = "error"
        if found != expected:
            wrong.append(f"{source!r}: {found!r}, not {expected!r}")
    variables: dict[str, str] = {}
    for line in (folder / "wordsTest").read_text().split("\n"):
        if line.startswith("ENV "):
            name, _, value = line[4:].lstrip(" ").partition("=")
            variables[name] = value
        elif line.strip() and not line.startswith("#"):
            source, _, listed = line.partition("|")
            total += 1
            try:
                split = Expander(variables).words(source.strip())
            except InvalidArgument:
                split = ["error"]
            if split != listed.lstrip(" ").split(","):
                wrong.append(f"{source.strip()!r}: {split}, not {listed!r}")
    return total, wrong


def main() -> int:
    """Compare everything."""
    root = Path(sys.argv[1])
    root = root if (root / "parser").is_dir() else root / "frontend/dockerfile"
    fixtures = len(list(root.glob("parser/testfiles*/*")))
    wrong = parsed(root / "parser")
    total, odd = words(root / "shell")
    print("\n".join(odd))
    print(f"{fixtures - len(wrong)} of {fixtures} Dockerfiles, {total - len(odd)} of {total} words")
    return 1 if wrong or odd else 0


if __name__ == "__main__":
    sys.exit(main())
