"""`corten gateway …` and `corten apply`: what is registered, what a request would get, what was asked."""

import sys

from corten.base import jsonio
from corten.cli.args import Values
from corten.cli.client import quote
from corten.cli.errors import Failure
from corten.cli.main import Cli
from corten.cli.table import Listing, Row

Json = dict[str, object]
BASE = "/corten/v1/gateway"
HEADERS = {"Name": "ROUTE", "Match": "MATCH", "Backends": "BACKENDS", "Functions": "FUNCTIONS", "Owner": "FROM"}
VERSIONS = {"Name": "VERSION", "Api": "API", "State": "STATE", "Sunset": "SUNSET", "Requests": "REQUESTS",
            "Last": "LAST", "Callers": "CALLERS"}
TOP = {"Route": "ROUTE", "Total": "REQUESTS", "Rate": "/S", "2xx": "2XX", "3xx": "3XX", "4xx": "4XX", "5xx": "5XX",
       "Retry": "RETRIES", "Timeout": "TIMEOUTS"}


def apply(cli: Cli, values: Values) -> None:
    """`corten apply -f FILE…`. POST /corten/v1/gateway/documents."""
    names = values.many("filename")
    if not names:
        raise Failure("corten apply: which file? -f FILE, or -f - for standard input")
    for name in names:
        query = [("dry", "1")] if values.flag("dry-run") else []
        for one in _many(cli.client.call("POST", f"{BASE}/documents", query, _read(name))):
            cli.out(f"{one['Key']} {one['Result']}{' (dry run)' if query else ''}")


def _read(name: str) -> bytes:
    try:
        if name == "-":
            return sys.stdin.buffer.read()
        with open(name, "rb") as file:
            return file.read()
    except OSError as error:
        raise Failure(f"{name}: {error.strerror}") from None


def _many(value: object) -> list[Json]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def register(cli: Cli, values: Values) -> None:
    """`corten gateway register NAME`. POST /corten/v1/gateway/apis."""
    labels = {}
    for flag, label in (("path", "path"), ("host", "host"), ("method", "methods"), ("policy", "policy")):
        if values.text(flag):
            labels[label] = values.text(flag)
    if values.has("port"):
        labels["port"] = str(values.number("port"))
    for text in values.many("set"):
        label, equals, value = text.partition("=")
        if not equals:
            raise Failure(f"invalid --set {text!r}: not LABEL=VALUE")
        labels[label] = value
    backends: list[Json] = []
    for kind in ("service", "container", "address"):
        backends += [{kind: text} for text in values.many(kind)]
    if not backends:
        raise Failure("where to? --service, --container or --address")
    body: Json = {"Name": values.rest[0], "Project": values.text("project"), "Labels": labels, "Backends": backends}
    for one in _many(cli.client.call("POST", f"{BASE}/apis", None, body)):
        cli.out(f"{one['Key']} {one['Result']}")


def unregister(cli: Cli, values: Values) -> None:
    """`corten gateway unregister NAME…` (or Policy/NAME, Version/NAME). DELETE …/documents/{kind}/{name}."""
    for name in values.rest:
        kind, slash, rest = name.rpartition("/")
        project = f"{values.text('project')}." if values.text("project") and not slash else ""
        cli.client.call("DELETE", f"{BASE}/documents/{quote(kind or 'Api')}/{quote(project + rest)}")
        cli.out(name)


def ls(cli: Cli, values: Values) -> None:
    """`corten gateway ls`. GET /corten/v1/gateway/routes."""
    rows = [_row(one) for one in _many(cli.client.call("GET", f"{BASE}/routes"))]
    Listing("*gateway.Route", HEADERS, tuple(HEADERS), "Name").show(rows, values.text("format"), values.flag("quiet"))


def _row(route: Json) -> Row:
    backends = [
        f"{','.join(one['Endpoints']) or 'none'}" + (f" ({one['Weight']})" if len(_many(route["Backends"])) > 1 else "")
        for one in _many(route["Backends"]) if isinstance(one["Endpoints"], list)]
    names = route["Functions"]
    assert isinstance(names, list)
    return {"Name": str(route["Name"]), "Match": str(route["Match"]), "Owner": str(route["Owner"]),
            "Backends": " ".join(backends) or f"({route['Action']})", "Functions": ",".join(names) or "-"}


def show(cli: Cli, values: Values) -> None:
    """`corten gateway show API`. GET /corten/v1/gateway/apis/{name}."""
    for name in values.rest:
        found = cli.client.call("GET", f"{BASE}/apis/{quote(name)}")
        assert isinstance(found, dict)
        if values.text("format") == "json":
            cli.out(jsonio.indented(found))
            continue
        cli.out(f"{found['Name']}, by {found['Owner']}")
        for route in _many(found["Routes"]):
            cli.out(f"  {route['Name']}  {route['Match']}")
            for one in _many(route["Backends"]):
                ends = one["Endpoints"]
                cli.out(f"    weight {one['Weight']} {one['Version'] or '-'}: "
                        f"{', '.join(ends) if isinstance(ends, list) and ends else 'nothing runs'}")
            policy = route["Policy"]
            if isinstance(policy, dict):
                for member, value in policy.items():
                    cli.out(f"    {member}: {jsonio.dumps(value)}")


def _request(values: Values) -> list[tuple[str, str]]:
    url = values.rest[0] if "://" in values.rest[0] else f"http://{values.rest[0]}"
    method = values.text("request") or ("POST" if values.given.get("data") else "GET")
    return [("url", url), ("method", method), *(("header", text) for text in values.many("header"))]


def explain(cli: Cli, values: Values) -> None:
    """`corten gateway explain URL`. GET /corten/v1/gateway/explain."""
    found = cli.client.call("GET", f"{BASE}/explain", _request(values))
    assert isinstance(found, dict)
    if values.text("format") == "json":
        cli.out(jsonio.dumps(found))
        return
    steps = found["Steps"]
    assert isinstance(steps, list)
    for step in steps:
        cli.out(str(step))


def test(cli: Cli, values: Values) -> int:
    """`corten gateway test URL`: 0 when the answer is below 400. POST /corten/v1/gateway/test."""
    found = cli.client.call("POST", f"{BASE}/test", _request(values), values.text("data").encode())
    assert isinstance(found, dict)
    if values.text("format") == "json":
        cli.out(jsonio.dumps(found))
    else:
        cli.out(f"{found['Status']}")
        line = found["Audit"]
        for name in line if isinstance(line, dict) else ():
            if line[name] is not None and name != "status":
                cli.out(f"  {name}: {line[name]}")
        if found["Body"]:
            cli.out(str(found["Body"]).rstrip("\n"))
    status = found["Status"]
    return int(isinstance(status, int) and status >= 400)


def audit(cli: Cli, values: Values) -> None:
    """`corten gateway audit`. GET /corten/v1/gateway/audit."""
    query = [("tail", str(values.number("tail"))), ("follow", "1" if values.flag("follow") else "0")]
    for line in cli.client.open("GET", f"{BASE}/audit", query).objects():
        cli.out(jsonio.dumps(line) if values.text("format") == "json" else _audit_line(line))
        sys.stdout.flush()


def _audit_line(line: Json) -> str:
    who = next((str(line[name]) for name in ("subject", "key", "caller", "certificate") if line.get(name)), "-")
    where = f"{line.get('host')}{line.get('path')}" if line.get("method") else line.get("callee") or line.get("to")
    why = line.get("why") or line.get("tls") or line.get("flags")
    what = line.get("method") or "connects"
    return (f"{line.get('time')} {line.get('client')} {who} {what} {where} {line.get('status') or '-'} {why} "
            f"{line.get('route') or '-'} {line.get('backend') or '-'} {line.get('ms')}ms")


def top(cli: Cli, values: Values) -> None:
    """`corten gateway top`. GET /corten/v1/gateway/rates."""
    import time

    before: dict[object, int] = {}
    stamp = 0.0
    while True:
        found = _many(cli.client.call("GET", f"{BASE}/rates"))
        now = time.monotonic()
        rows: list[Row] = []
        for one in found:
            total = one["Total"]
            assert isinstance(total, int)
            since = total - before.get(one["Route"], total)
            rows.append({**one, "Rate": f"{since / (now - stamp):.1f}" if stamp else "-"})
            before[one["Route"]] = total
        stamp = now
        stream = sys.stdout.isatty() and not values.flag("no-stream")
        if stream:
            sys.stdout.write("\033[H\033[J")
        Listing("*gateway.Rate", TOP, tuple(TOP), "Route").show(rows, values.text("format"))
        sys.stdout.flush()
        if not stream:
            return
        time.sleep(1)


def versions(cli: Cli, values: Values) -> None:
    """`corten gateway versions`. GET /corten/v1/gateway/versions."""
    rows: list[Row] = []
    for one in _many(cli.client.call("GET", f"{BASE}/versions")):
        callers = one["Callers"]
        told = ", ".join(f"{who} ({n})" for who, n in callers.items()) if isinstance(callers, dict) else ""
        rows.append({**one, "Callers": told or "-", "Sunset": one["Sunset"] or "-", "Last": one["Last"] or "-"})
    Listing("*gateway.Version", VERSIONS, tuple(VERSIONS), "Name").show(rows, values.text("format"))


def authority(cli: Cli, values: Values) -> None:
    """`corten gateway authority`: the certificate that made ones are signed with. GET …/authority."""
    for piece in cli.client.open("GET", f"{BASE}/authority").pieces():
        sys.stdout.write(piece.decode())


def metrics(cli: Cli, values: Values) -> None:
    """`corten gateway metrics`: Prometheus' text. GET /corten/v1/gateway/metrics."""
    for piece in cli.client.open("GET", f"{BASE}/metrics").pieces():
        sys.stdout.buffer.write(piece)


def status(cli: Cli, values: Values) -> None:
    """`corten gateway status`. GET /corten/v1/gateway."""
    found = cli.client.call("GET", BASE)
    for name, value in found.items() if isinstance(found, dict) else ():
        cli.out(f"{name}: {', '.join(value) if isinstance(value, list) else value}")
