"""`corten build` over BuildKit's protocol: flags in, progress on stderr, the result where it was asked for."""

import os
from typing import Any

from corten.base import jsonio
from corten.base.files import atomic_write
from corten.cli.args import Values
from corten.cli.buildkit.asked import Asked
from corten.cli.buildkit.caches import add_to_index
from corten.cli.buildkit.display import (
    Display,
    Plain,
    RawJson,
    failure_excerpt,
    source_excerpts,
    warnings_text,
)
from corten.cli.buildkit.flags import drop_scratch, read_flags
from corten.cli.buildkit.solve import Refused, solve
from corten.cli.errors import Failure
from corten.cli.main import Cli
from corten.cli.stream import write_all

_DESCRIPTOR = "containerimage.descriptor"


def build(cli: Cli, values: Values) -> int:
    """Raises Failure with the lines of the Dockerfile that are to blame."""
    display = _display(values)
    asked = read_flags(values)
    try:
        answer = solve(cli.client, asked, cli.config_dir, display.tell, _to_stdout, display.tick)
    except Refused as refused:
        display.end()
        shown = failure_excerpt(display.steps) + source_excerpts(refused.sources)
        raise Failure(f"{_said(display)}{shown}ERROR: failed to build: failed to solve: {refused.text}") from None
    except Failure:
        display.end()
        raise
    finally:
        drop_scratch(asked)
    display.end()
    if text := _said(display):
        cli.error(text.rstrip("\n"))
    _keep(values, asked, answer)
    if values.flag("quiet"):
        cli.out(_image_id(answer))
    return 0


def _said(display: Display) -> str:
    return "" if type(display) in (Display, RawJson) else warnings_text(display.steps)


def _to_stdout(data: bytes) -> None:
    write_all(1, data)


def _display(values: Values) -> Display:
    """Raises Failure for a kind there is not."""
    kind = values.text("progress") or os.environ.get("BUILDKIT_PROGRESS", "") or "auto"
    if values.flag("quiet"):
        kind = "quiet"
    if kind == "auto":
        kind = "tty" if os.isatty(2) else "plain"
    if kind in ("quiet", "none"):
        return Display()
    if kind == "plain":
        return Plain()
    if kind == "rawjson":
        return RawJson()
    if kind != "tty":
        raise Failure(f"ERROR: invalid progress mode {kind}")
    if not os.isatty(2):
        raise Failure("ERROR: failed to get console: provided file is not a console")
    from corten.cli.buildkit.tree import Tree

    return Tree()


def _image_id(answer: dict[str, str]) -> str:
    return answer.get("containerimage.config.digest") or answer.get("containerimage.digest", "")


def _keep(values: Values, asked: Asked, answer: dict[str, str]) -> None:
    """Write what was asked for: the id, the metadata, the indexes of layouts."""
    if values.text("iidfile"):
        atomic_write(values.text("iidfile"), _image_id(answer).encode(), 0o644)
    if values.text("metadata-file"):
        atomic_write(values.text("metadata-file"), jsonio.indented(metadata(answer), 2).encode(), 0o644)
    cache = _object(answer.get("cache.manifest", ""))
    for end in asked.cache_to:
        if end.folder and cache:
            add_to_index(end.folder, cache, [end.attributes.get("tag", "latest")])
    described = _object(_decoded(answer.get(_DESCRIPTOR, "")))
    for output in asked.outputs:
        if output.folder and output.kind != "local" and described:
            names = [name.rpartition(":")[2] if ":" in name.rpartition("/")[2] else "latest"
                     for name in values.many("tag")]
            add_to_index(output.folder, described, names or ["latest"])


def metadata(answer: dict[str, str]) -> dict[str, Any]:
    """The engine's answer as --metadata-file has it: what is JSON in base64 is written as JSON."""
    found: dict[str, Any] = {}
    for name, text in sorted(answer.items()):
        value = _object(_decoded(text))
        found[name] = value if value is not None else text
    return found


def _decoded(text: str) -> str:
    import binascii

    try:
        return binascii.a2b_base64(text, strict_mode=True).decode()
    except ValueError:
        return ""


def _object(text: str) -> dict[str, Any] | None:
    """A JSON object, None for anything else."""
    try:
        value = jsonio.loads(text) if text.startswith("{") else None
    except ValueError:
        value = None
    return value if isinstance(value, dict) else None


