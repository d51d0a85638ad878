"""`corten diff`, `export` and `commit`: a container's file system as a list, a tar archive or an image."""

import os

from corten.cli.args import Values
from corten.cli.client import quote
from corten.cli.errors import Failure
from corten.cli.main import Cli
from corten.cli.reference import check, full_name, split_name

_KINDS = {0: "C", 1: "A", 2: "D"}


def diff(cli: Cli, values: Values) -> None:
    """`corten diff C`. GET /containers/{id}/changes."""
    name = values.rest[0]
    if not name:
        raise Failure("Container name cannot be empty")
    found = cli.client.call("GET", f"/containers/{quote(name)}/changes")
    for one in found if isinstance(found, list) else []:
        cli.out(f"{_KINDS.get(one.get('Kind'), '?')} {one.get('Path', '')}")


def export(cli: Cli, values: Values) -> None:
    """`corten export C`. GET /containers/{id}/export."""
    from corten.cli.transfer import check_output, to_file

    path = values.text("output")
    if not path and os.isatty(1):
        raise Failure("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    check_output(path, "failed to export container: ")
    reply = cli.client.open("GET", f"/containers/{quote(values.rest[0])}/export")
    to_file(reply.pieces(), path)


def commit(cli: Cli, values: Values) -> None:
    """`corten commit C [NAME[:TAG]]`. POST /commit."""
    container, *name = values.rest
    query = [("container", container)]
    if name:
        check(name[0])
        repository, tag, digest = split_name(name[0])
        if digest:
            raise Failure("refusing to create a tag with a digest reference")
        query += [("repo", full_name(repository)), ("tag", tag or "latest")]
    for flag, parameter in (("message", "comment"), ("author", "author")):
        if values.text(flag):
            query.append((parameter, values.text(flag)))
    query += [("changes", change) for change in values.many("change")]
    if not values.flag("pause"):
        query.append(("pause", "0"))
    found = cli.client.call("POST", "/commit", query)
    cli.out(str(found["Id"]) if isinstance(found, dict) else "")
