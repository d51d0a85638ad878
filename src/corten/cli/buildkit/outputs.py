"""`-o`, `--push`, `--load`, `--annotation`: what becomes of the result. Source: docs.docker.com/build/exporters."""

import os

from corten.cli.args import Values, split_csv
from corten.cli.buildkit.asked import Asked, Output
from corten.cli.buildkit.fields import fields, has_fields
from corten.cli.errors import Failure

_FILES, _ARCHIVES = ("local",), ("tar", "oci", "docker")
_ANNOTATED = ("image", "oci", "docker")


def read_outputs(values: Values, asked: Asked) -> None:
    """Fill in the outputs: none named is an image of the engine's. Raises Failure."""
    push, load = values.flag("push"), values.flag("load")
    for text in values.many("output"):
        asked.outputs += [output] if (output := _output(text)) else []
    if push:
        _push(asked)
    if load and not any(one.kind == "image" for one in asked.outputs):
        asked.outputs.append(Output("image", {}))
    if not asked.outputs and not values.many("output"):
        asked.outputs.append(Output("image", {}))
    if sum(one.file == "-" for one in asked.outputs) > 1:
        raise Failure("ERROR: multiple outputs to stdout are not allowed")
    names = ",".join(values.many("tag"))
    for output in asked.outputs:
        if names and output.kind in _ANNOTATED and "name" not in output.attributes:
            output.attributes["name"] = names
    _annotate(values.many("annotation"), asked.outputs)


def _push(asked: Asked) -> None:
    images = [one for one in asked.outputs if one.kind == "image"]
    for one in images or [Output("image", {})]:
        one.attributes["push"] = "true"
        if one not in asked.outputs:
            asked.outputs.append(one)


def _output(text: str) -> Output | None:
    """One `-o`; None for `type=cacheonly`."""
    if not has_fields(text):
        if text == "-":
            return _archive("tar", {}, "-")
        return Output("local", {}, folder=os.path.abspath(text))
    found = fields(text, "--output")
    kind = found.pop("type", "")
    if not kind:
        raise Failure("ERROR: type is required for output")
    destination = found.pop("dest", "")
    if kind == "cacheonly":
        return None
    if kind == "registry":
        kind = "image"
        found["push"] = "true"
    if kind in _FILES:
        if not destination:
            raise Failure("ERROR: dest is required for local output")
        mode = found.pop("mode", "copy")  # who writes the folder does it, and that is this side
        if mode not in ("copy", "delete"):
            raise Failure(f"ERROR: invalid local output mode {mode}: copy or delete")
        output = Output(kind, found, folder=os.path.abspath(destination))
        output.delete = mode == "delete"
        return output
    if kind == "docker" and not destination:
        return Output("image", found)
    if kind in _ARCHIVES:
        return _archive(kind, found, destination or "-")
    if destination:
        raise Failure(f"ERROR: dest is not supported for {kind} output")
    return Output(kind, found)


def _archive(kind: str, attributes: dict[str, str], destination: str) -> Output:
    if attributes.get("tar", "true").lower() in ("false", "0"):
        if destination == "-":
            raise Failure(f"ERROR: dest is required for {kind} output with tar=false")
        return Output(kind, attributes, folder=os.path.abspath(destination))
    if destination == "-":
        if os.isatty(1):
            raise Failure(f"ERROR: dest file is required for {kind} exporter. refusing to write to console")
        return Output(kind, attributes, file="-")
    if os.path.isdir(destination):
        raise Failure(f"ERROR: destination directory {destination} is a directory, a file is wanted for {kind}")
    return Output(kind, attributes, file=os.path.abspath(destination))


def _annotate(texts: list[str], outputs: list[Output]) -> None:
    """`[LEVEL[,LEVEL…]:]KEY=VALUE`, LEVEL one of manifest, index, … with a platform in brackets behind it."""
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise Failure(f'ERROR: invalid annotation "{text}", expected key=value')
        levels, colon, rest = key.partition(":")
        known = colon and all(_is_level(level) for level in split_csv(levels))
        for level in split_csv(levels) if known else [""]:
            for output in outputs:
                if output.kind in _ANNOTATED:
                    prefix = f"annotation-{level}" if level else "annotation"
                    output.attributes[f"{prefix}.{rest if known else key}"] = value


def _is_level(text: str) -> bool:
    name, bracket, platform = text.partition("[")
    whole = not bracket or platform.endswith("]")
    return whole and name in ("manifest", "index", "manifest-descriptor", "index-descriptor")
