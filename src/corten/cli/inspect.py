"""`corten inspect` and its kin: the engine's own JSON, or a template on it.

A template sees the typed object first (a field the JSON leaves out is zero), then the bare JSON (an absent field is an
error), as docker's does.
"""

import sys
from collections.abc import Callable

from corten.base import jsonio
from corten.cli.args import Values
from corten.cli.client import Query, quote
from corten.cli.errors import ApiError, Failure
from corten.cli.main import Cli

Getter = Callable[[str], tuple[object, str]]  # a name -> (JSON, Go type)


def _kind_getter(cli: Cli, path: str, kind: str, query: Query | None = None) -> Getter:
    def get(name: str) -> tuple[object, str]:
        return cli.client.call("GET", path.format(quote(name, b"/:@" if "images" in path else b"")), query), kind

    return get


def _containers(cli: Cli, size: bool) -> Getter:
    return _kind_getter(cli, "/containers/{}/json", "container.InspectResponse", [("size", "1")] if size else None)


def _images(cli: Cli, query: Query | None = None) -> Getter:
    return _kind_getter(cli, "/images/{}/json", "image.InspectResponse", query)


def _volumes(cli: Cli) -> Getter:
    return _kind_getter(cli, "/volumes/{}", "volume.Volume")


def _networks(cli: Cli, verbose: bool) -> Getter:
    return _kind_getter(cli, "/networks/{}", "network.Inspect", [("verbose", "true")] if verbose else None)


def _show(values: Values, names: list[str], get: Getter) -> None:
    form = values.text("format")
    render = None
    if form not in ("", "json"):
        render = _renderer(form)
    failures: list[str] = []
    found: list[object] = []
    texts: list[str] = []
    for name in names:
        try:
            value, kind = get(name)
            if render:
                texts.append(render(value, kind) + "\n")
            else:
                found.append(value)
        except Failure as failure:
            failures.append(failure.text)
    if render:
        sys.stdout.write("".join(texts) or "\n")
    elif form == "json":
        sys.stdout.write(jsonio.dumps(found) + "\n")
    else:
        sys.stdout.write((jsonio.indented(found) if found else "[]") + "\n")
    if failures:
        raise Failure("\n".join(failures))


def _renderer(form: str) -> Callable[[object, str], str]:
    from corten.cli.template import TemplateError
    from corten.cli.template_run import Template
    from corten.cli.typed import view

    try:
        template = Template(form)
    except TemplateError as error:
        raise Failure(f"template parsing error: {error.text}", 64) from None

    def render(value: object, kind: str) -> str:
        try:
            return template.render(view(value, kind))
        except TemplateError:
            pass
        try:
            return template.render(value, strict=True)
        except TemplateError as error:
            raise Failure(f"template parsing error: {error.text}") from None

    return render


def container(cli: Cli, values: Values) -> None:
    """`corten container inspect`"""
    _show(values, values.rest, _containers(cli, values.flag("size")))


def image(cli: Cli, values: Values) -> None:
    """`corten image inspect`"""
    from corten.cli.images import _platform

    _show(values, values.rest, _images(cli, _platform(values) or None))


def volume(cli: Cli, values: Values) -> None:
    """`corten volume inspect`"""
    _show(values, values.rest, _volumes(cli))


def network(cli: Cli, values: Values) -> None:
    """`corten network inspect`"""
    if values.flag("trace"):
        if not values.text("format"):
            from corten.cli.network_trace import show

            show(cli, values.rest)
            return
        _show(values, values.rest, _kind_getter(cli, "/corten/containers/{}/network-trace", ""))
        return
    _show(values, values.rest, _networks(cli, values.flag("verbose")))


def anything(cli: Cli, values: Values) -> None:
    """`corten inspect`: the first kind that knows the name, or the one of --type."""
    wanted = values.text("type")
    getters = {
        "container": _containers(cli, values.flag("size")), "image": _images(cli), "network": _networks(cli, False),
        "volume": _volumes(cli),
    }
    if values.has("type") and wanted not in getters:
        if not wanted:
            raise Failure("type is empty: must be one of \"config\", \"container\", \"image\", \"network\", \"node\", "
                          "\"plugin\", \"secret\", \"service\", \"task\", \"volume\"")
        raise Failure(f'unknown type: "{wanted}": must be one of "config", "container", "image", "network", "node", '
                      '"plugin", "secret", "service", "task", "volume"')

    def get(name: str) -> tuple[object, str]:
        for kind, getter in getters.items():
            if wanted not in ("", kind):
                continue
            try:
                return getter(name)
            except ApiError as error:
                if wanted or error.status not in (400, 404):
                    raise
        raise Failure(f"Error: No such object: {name}")

    _show(values, values.rest, get)
