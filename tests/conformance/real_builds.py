"""Dockerfiles of other projects, rewritten only where they need the internet, built by two engines and compared.

    real_builds.py FOLDER BUILDX SOCKET [SOCKET]      # FOLDER/<name> are Dockerfiles; the first socket may be dockerd's

What becomes of a line: an image is busybox; a RUN with a program that fetches or compiles writes down what it was
(any other RUN stays, and may fail); a URL of ADD is a file. What COPY wants of the context is made. Prints what two
engines made differently of files, configuration and history, and the sums; nothing of the projects is kept.
"""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

from build_cases import changed, config_of, history_of, tree_of
from images import busybox_archive
from record_builds import api_of

from corten.build.arguments import global_arguments
from corten.build.dockerfile import parse
from corten.build.heredocs import heredoc_of
from corten.build.instructions import Command, read_plan
from corten.build.remotes import is_remote
from corten.build.variables import Expander

FETCHES = re.compile(
    r"\b(apt-get|apt|apk|yum|dnf|microdnf|tdnf|zypper|curl|wget|git|gpg|go|npm|yarn|pnpm|corepack|pip3?|uv|cargo|rustup|make|"
    r"cmake|gcc|mvn|gradle|ruby|gem|bundle|python3?|node|xx-\w+|tar|unzip|\./[\w./-]+|set -o pipefail|bash)\b")


def rewritten(command: Command, stages: set[str]) -> str:
    """One instruction as it is built here."""
    text = command.code
    if command.name == "FROM":
        base = command.arguments[0]
        rest = " ".join(command.arguments[1:])
        return f"FROM {base if base in stages or base == 'scratch' else 'busybox'} {rest}".strip()
    if command.name == "RUN":
        whole = text + "".join(document.content for document in command.heredocs)
        if FETCHES.search(whole) or "--mount" in text or command.heredocs or not command.shell_form:
            return f"RUN echo {hashlib.sha256(whole.encode()).hexdigest()[:16]} >>/ran"
        return f"RUN ({text.split(None, 1)[1].rstrip()}) || true"
    if command.name in ("COPY", "ADD"):
        return copied(command, stages)
    return text


def copied(command: Command, stages: set[str]) -> str:
    flags = [f"--{name}={value}" for name, values in command.flags.items() for value in values
             if name in ("chown", "chmod", "link") and not re.search("[a-z]", value.replace("true", ""))]
    origin = command.flag("from")
    *sources, target = command.arguments
    if origin:
        known = origin in stages or origin.isdigit()
        return f"COPY --from={origin if known else 'busybox'} {' '.join(flags)} /etc/group {target}"
    if command.heredocs:
        return f"COPY {' '.join(flags)} made {target}"
    sources = ["made" if is_remote(word) else word for word in sources if not heredoc_of(word)]
    return " ".join(["COPY", *flags, *sources, target])


def prepare(text: bytes, folder: Path) -> None:
    """The rewritten Dockerfile and a context that has what it wants."""
    plan = read_plan(parse(text))
    known, _ = global_arguments(plan, {})
    (folder / "made").write_text("made\n")
    lines = [command.code for command in plan.meta_args]
    stages: set[str] = set()
    for stage in plan.stages:
        lines.append(rewritten(stage.command, stages))
        stages.add(stage.name)
        for command in stage.commands:
            lines.append(rewritten(command, stages))
            if command.name in ("COPY", "ADD") and not command.flag("from"):
                for word in command.arguments[:-1]:
                    if not is_remote(word) and not heredoc_of(word):
                        make(folder, Expander(known).word(word))
    (folder / "Dockerfile").write_text("\n".join(line.replace("\n", " ") for line in lines) + "\n")


def make(folder: Path, word: str) -> None:
    """A file or folder of that name."""
    word = re.sub(r"[*?\[\]]", "x", word).strip("/") or "."
    place = folder / os.path.normpath(word)
    if place.exists() or ".." in word:
        return
    if "." in place.name or place.name.isupper() or "-" in place.name:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(word)
    else:
        place.mkdir(parents=True)
        (place / "file").write_text(word)


def look(buildx: str, socket: str, name: str, folder: Path) -> dict[str, object] | str:
    """What an engine makes of it, or its complaint."""
    done = subprocess.run([buildx, "build", "--progress=plain", "-t", f"real-{name}", folder], capture_output=True, text=True,
                          env={**os.environ, "DOCKER_HOST": f"unix://{socket}", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"})
    if done.returncode:
        return done.stderr.strip().splitlines()[-1].partition("failed to solve: ")[2] or done.stderr[-500:]
    api, image = api_of(socket), f"real-{name}"
    tree = changed(tree_of(api, "busybox"), tree_of(api, image))
    if "-bin" in tree or "-etc/passwd" in tree:  # nothing of busybox in it, but what dockerd makes to mount over
        tree = [line for line in tree if line[0] != "-"]
    return {"tree": tree, "config": config_of(api, image),
            "history": history_of(api, image)}


def main() -> int:
    """Build all, compare."""
    source, buildx, *sockets = sys.argv[1:]
    for socket in sockets:
        with tempfile.TemporaryDirectory() as folder:
            busybox_archive(f"{folder}/busybox.tar")
            api_of(socket)("POST", "/images/load", Path(folder, "busybox.tar").read_bytes())
    same = failed = 0
    files = sorted(Path(source).iterdir())
    for file in files:
        name = re.sub("[^a-z0-9]+", "-", file.name.lower()).strip("-")
        with tempfile.TemporaryDirectory() as folder:
            prepare(file.read_bytes(), Path(folder))
            os.chmod(folder, 0o755)
            found = [look(buildx, socket, name, Path(folder)) for socket in sockets]
        if all(one == found[0] for one in found):
            same += 1
            failed += isinstance(found[0], str)
        else:
            print(f"--- {name}")
            for one in found:
                print(one if isinstance(one, str) else {key: value for key, value in one.items() if any(
                    isinstance(other, str) or other[key] != value for other in found)})
    print(f"{same} of {len(files)} the same, {failed} of them refused by all")
    return 0 if same == len(files) else 1


if __name__ == "__main__":
    sys.exit(main())
