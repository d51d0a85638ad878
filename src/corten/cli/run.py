"""`corten run` and `corten create`: make a container from an image, start it, stay with it."""

import os

from corten.cli.args import Values
from corten.cli.client import quote
from corten.cli.create_request import Json, build
from corten.cli.errors import ApiError, Failure, UsageError
from corten.cli.main import Cli, usage_failure
from corten.cli.reference import check


def _with_help(cli: Cli, failure: Failure, code: int = 125) -> Failure:
    if isinstance(failure, UsageError):
        return usage_failure(cli, failure.text)
    return Failure(f"corten: {failure.text}\n\nRun 'corten {cli.spelled} --help' for more information", code)


def _start_code(text: str) -> int:
    """The exit code that a shell would give for why the program did not start."""
    if any(words in text for words in ("executable file not found", "no such file or directory",
                                       "system cannot find the file specified")):
        return 127
    if "permission denied" in text or "is a directory" in text:
        return 126
    return 125


def _pull_policy(values: Values) -> str:
    policy = values.text("pull")
    if policy not in ("always", "missing", "never"):
        raise Failure(f"invalid pull option: '{policy}': must be one of \"always\", \"missing\" or \"never\"")
    return policy


def _pull(cli: Cli, values: Values, image: str) -> None:
    from corten.cli.transfer import pull_image

    pull_image(cli, image, platform=values.text("platform"), quiet=values.flag("quiet"), to_stderr=True)


def create_container(cli: Cli, values: Values, request: tuple[Json, Json, Json]) -> tuple[str, Json]:
    """(id, Config) of a new container; its image pulled when it is missing. Raises Failure."""
    config, host, networking = request
    policy = _pull_policy(values)
    image = str(config["Image"])
    cid_file = values.text("cidfile")
    if cid_file and os.path.exists(cid_file):
        raise Failure(f"container ID file found, make sure the other container isn't running or delete {cid_file}")
    query = [("name", values.text("name"))] if values.text("name") else []
    if values.text("platform"):
        query.append(("platform", values.text("platform")))
    if policy == "always":
        _pull(cli, values, image)
    body: Json = {**config, "HostConfig": host, "NetworkingConfig": networking}
    try:
        created = cli.client.call("POST", "/containers/create", query, body)
    except ApiError as error:
        if error.status != 404 or policy != "missing" or not any(text in error.message for text in _LACKING):
            raise
        if not values.flag("quiet"):
            from corten.cli.reference import familiar, with_default_tag

            cli.error(f"Unable to find image '{familiar(with_default_tag(image))}' locally")
        _pull(cli, values, image)
        created = cli.client.call("POST", "/containers/create", query, body)
    assert isinstance(created, dict)
    for warning in created.get("Warnings") or []:
        cli.error(f"WARNING: {warning}")
    if cid_file:
        with open(cid_file, "w", encoding="utf-8") as file:
            file.write(str(created["Id"]))
    return str(created["Id"]), config


_LACKING = ("No such image", "was found but")  # the second: not of the platform asked for
_WINDOWS = ("cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops")


def _check_platform(text: str) -> None:
    parts = text.split("/") if text else []
    if len(parts) > 3 or not all(part.replace("-", "").replace("_", "").replace(".", "").isalnum() for part in parts):
        raise Failure(f'error parsing specified platform: "{text}": cannot parse platform specifier: invalid argument')


def _request(cli: Cli, values: Values) -> tuple[Json, Json, Json]:
    """The flags as a request; what is wrong with them ends with 125. Raises Failure."""
    for name in _WINDOWS:
        if values.has(name):
            raise Failure(f'"--{name}" is only supported on a corten daemon running on windows, '
                          "but the corten daemon is running on linux")
    try:
        _check_platform(values.text("platform"))
        _pull_policy(values)
        request = build(values)
    except Failure as failure:
        raise _with_help(cli, failure) from None
    try:
        check(str(request[0]["Image"]))
    except Failure as failure:
        if cli.path == "container run":  # run ends with 125 for whatever kept it from running
            raise _with_help(cli, failure) from None
        raise
    return request


def create(cli: Cli, values: Values) -> None:
    """`corten create`: prints the id."""
    cli.out(create_container(cli, values, _request(cli, values))[0])


def run(cli: Cli, values: Values) -> int:
    """`corten run`: the container's exit code, or 125 to 127 when it did not come to that."""
    try:
        return _run(cli, values)
    except ApiError as error:
        raise _with_help(cli, error) from None


def _check(values: Values) -> None:
    detach = values.flag("detach")
    if detach and values.many("attach"):
        raise Failure("conflicting options: cannot specify both --attach and --detach")
    if not detach:
        from corten.cli.tty import check_input

        check_input(_wants_stdin(values), values.flag("tty"))


def _wants_stdin(values: Values) -> bool:
    attached = [word.lower() for word in values.many("attach")]
    return "stdin" in attached if attached else values.flag("interactive")


def _run(cli: Cli, values: Values) -> int:
    request = _request(cli, values)  # a wrong flag comes before the question of the terminal
    _check(values)
    if values.text("detach-keys"):
        from corten.cli.tty import parse_keys

        parse_keys(values.text("detach-keys"))
    try:
        container_id, config = create_container(cli, values, request)
    except ApiError:
        raise
    except Failure as failure:
        raise _with_help(cli, failure) from None
    if values.flag("detach"):
        try:
            _start(cli, container_id)
            if values.flag("wait"):
                _wait_healthy(cli, container_id)
        finally:
            cli.out(container_id)  # it is there, whether it runs or not
        return 0
    return _foreground(cli, values, container_id, config)


def _wait_healthy(cli: Cli, container_id: str) -> None:
    from corten.cli.lifecycle import wait_healthy

    wait_healthy(cli, container_id)


def _start(cli: Cli, container_id: str) -> None:
    try:
        cli.client.call("POST", f"/containers/{quote(container_id)}/start")
    except ApiError as error:
        raise _with_help(cli, error, _start_code(error.message)) from None


def _foreground(cli: Cli, values: Values, container_id: str, config: Json) -> int:
    from corten.cli.attach import Attached, detach_keys, exit_code, open_stream, wait_for_exit

    stdin, stdout, stderr = (bool(config[f"Attach{name}"]) for name in ("Stdin", "Stdout", "Stderr"))
    keys = detach_keys(cli, values)
    path = f"/containers/{quote(container_id)}"
    attached = None
    if stdin or stdout or stderr:
        connection = open_stream(cli, container_id, stdin=stdin, stdout=stdout, stderr=stderr, keys=keys)
        attached = Attached(
            cli, connection, is_tty=values.flag("tty"), stdin=stdin, keys=keys, resize_path=f"{path}/resize",
            kill_path=f"{path}/kill" if values.flag("sig-proxy") else "",
        )
    waiting = wait_for_exit(cli, container_id, "removed" if values.flag("rm") else "next-exit")
    try:
        _start(cli, container_id)
    except Failure:
        if values.flag("rm"):
            waiting.read()  # the engine removes what did not start
        else:
            waiting.close()
        raise
    if attached and attached.run():
        return 0
    return exit_code(waiting)
