"""`corten trust …`: identities of services, who may call whom, whom nobody believes any more."""

import time

from corten.cli.args import Values
from corten.cli.client import quote
from corten.cli.gateway import BASE as GATEWAY
from corten.cli.main import Cli
from corten.cli.table import Listing, Row

BASE = "/corten/v1/trust"
HEADERS = {"Container": "CONTAINER", "Service": "SERVICE", "Level": "LEVEL", "Identity": "IDENTITY",
           "State": "STATE", "Renewed": "EXPIRES", "Ports": "PORTS"}


def ls(cli: Cli, values: Values) -> None:
    """`corten trust ls`. GET /corten/v1/trust."""
    rows: list[Row] = []
    for one in _many(cli.client.call("GET", BASE)):
        ports = [f"{port}/{kind.lower()}" for kind in ("Http", "Tcp") for port in _list(one[kind])]
        end = one["Expires"]
        left = f"in {max(0, int(end - time.time())) // 60} min" if isinstance(end, int) and end else "-"
        rows.append({**one, "Renewed": left, "Ports": ",".join(ports) or "-", "Identity": one["Identity"] or "-",
                     "State": one["State"] or "-"})
    Listing("*trust.Identity", HEADERS, tuple(HEADERS), "Container").show(
        rows, values.text("format"), values.flag("quiet"))


def _many(value: object) -> list[dict[str, object]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def matrix(cli: Cli, values: Values) -> None:
    """`corten trust matrix`: a row for each caller, a column for each callee. GET /corten/v1/trust/matrix."""
    found = _many(cli.client.call("GET", f"{BASE}/matrix"))
    names = [str(one["Caller"]) for one in found if one["Level"]]
    headers = {"Caller": "CALLER", "Level": "LEVEL", **dict(zip(names, names, strict=True))}
    rows: list[Row] = []
    for one in found:
        calls = one["Calls"]
        assert isinstance(calls, dict)
        rows.append({"Caller": one["Caller"], "Level": one["Level"], str(one["Caller"]): "", **calls})
    Listing("*trust.Matrix", headers, tuple(headers), "Caller").show(rows, values.text("format"))


def _key(text: str) -> tuple[str, str]:
    """(project, service) of `project/service` or an identity."""
    if text.startswith("spiffe://"):
        parts = text.split("/")
        text = f"{parts[4]}/{parts[6]}" if len(parts) == 7 else text
    project, slash, service = text.partition("/")
    return ("" if project == "-" else project, service) if slash else ("", text)


def revoke(cli: Cli, values: Values) -> None:
    """`corten trust revoke SERVICE…`: a Revocation document. POST /corten/v1/gateway/documents."""
    for text in values.rest:
        project, service = _key(text)
        document = {"kind": "Revocation", "name": service, **({"project": project} if project else {})}
        cli.client.call("POST", f"{GATEWAY}/documents", None, [document])
        cli.out(text)


def restore(cli: Cli, values: Values) -> None:
    """`corten trust restore SERVICE…`. DELETE /corten/v1/gateway/documents/Revocation/{name}."""
    for text in values.rest:
        project, service = _key(text)
        name = f"{project}.{service}" if project else service
        cli.client.call("DELETE", f"{GATEWAY}/documents/Revocation/{quote(name)}")
        cli.out(text)


def rotate(cli: Cli, values: Values) -> None:
    """`corten trust rotate`: new certificates for all, now. POST /corten/v1/trust/rotate."""
    cli.client.call("POST", f"{BASE}/rotate")
