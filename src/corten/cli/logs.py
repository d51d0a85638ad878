"""`corten logs`: what a container has written, and what it goes on to write."""

from corten.cli.args import Values
from corten.cli.client import quote
from corten.cli.main import Cli
from corten.cli.stream import Demultiplexer, write_all


def logs(cli: Cli, values: Values) -> None:
    """`corten logs C`. GET /containers/{id}/logs; times are judged by the engine."""
    name = values.rest[0]
    found = cli.client.call("GET", f"/containers/{quote(name)}/json")
    config = found.get("Config") if isinstance(found, dict) else None
    query = [("stdout", "1"), ("stderr", "1")]
    for flag in ("follow", "timestamps", "details"):
        if values.flag(flag):
            query.append((flag, "1"))
    for flag in ("since", "until"):
        if values.text(flag):
            query.append((flag, moment(values.text(flag), flag)))
    query.append(("tail", values.text("tail")))
    reply = cli.client.open("GET", f"/containers/{quote(name)}/logs", query)
    if isinstance(config, dict) and config.get("Tty"):
        for piece in reply.pieces():
            write_all(1, piece)
        return
    demultiplexer = Demultiplexer()
    for piece in reply.pieces():
        demultiplexer.feed(piece)


def moment(text: str, flag: str = "since") -> str:
    """A time as the API takes it, `seconds.nanoseconds`: from RFC 3339, seconds, or a duration ago. Raises Failure."""
    from corten.base.errors import InvalidArgument
    from corten.base.units import parse_time
    from corten.cli.errors import Failure

    try:
        nanoseconds = parse_time(text)
    except InvalidArgument:
        where = f'invalid value for "{flag}": ' if flag else ""
        raise Failure(f'{where}failed to parse value as time or duration: "{text}"') from None
    return f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09d}"
