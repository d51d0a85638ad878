"""docs/compat.md says what the engine does: every field tried, every operation asked."""

from pathlib import Path

import pytest
from compat_fields import HONOURED, REFUSED, TABLES, operations, page

DOCUMENT = Path(__file__).parents[2] / "docs/compat.md"
FIELDS = [(title, name) for title, _, table in TABLES for name in sorted(table)]


def test_the_page_is_made_from_the_data():
    assert DOCUMENT.read_text() == page(), "make it again: python tests/api/compat_fields.py >docs/compat.md"


@pytest.mark.parametrize(("title", "kind", "table"), TABLES, ids=[title for title, _, _ in TABLES])
def test_every_field_is_spoken_of(title, kind, table):
    assert set(kind.__struct_encode_fields__) == set(table)


@pytest.mark.parametrize(("title", "name"), FIELDS)
def test_a_field(engine, title, name):
    value, status, _note = {title: table for title, _, table in TABLES}[title][name]
    body = {"Image": "busybox", "Cmd": ["true"]}
    if title == "HostConfig":
        body["HostConfig"] = {name: value}
    else:
        body[name] = value
    if name.startswith("CpuRealtime"):  # a runtime beyond its period, whatever the kernel has
        body["HostConfig"] = {"CpuRealtimePeriod": 10, "CpuRealtimeRuntime": 20}
    answer = engine.api("POST", "/containers/create", body)
    if status == REFUSED:
        assert answer.status in (400, 501), answer.body
        return
    assert answer.status == 201, answer.body
    shown = engine.inspect(answer.json["Id"])
    found = (shown["HostConfig"] if title == "HostConfig" else shown["Config"]).get(name)
    if isinstance(value, dict) and isinstance(found, dict):
        found = {key: found.get(key) for key in value}
    elif value == []:
        found = found or []
    elif name in ("Env", "ReadonlyPaths", "MaskedPaths"):
        found = [item for item in found if item in value]
    elif name == "Mounts":
        found = [{key: item[key] for key in value[0]} for item in found]
    assert status in (HONOURED, "stored") and found == value


@pytest.mark.parametrize(("operation", "status"), list(operations()))
def test_an_operation_answers_as_the_page_says(engine, operation, status):
    method, path = operation.split()
    if status == "done":
        return  # each has tests of its own; that it is routed is what `operations` has looked at
    for word in ("{id}", "{name}", "{name:path}", "{checkpoint}"):
        path = path.replace(word, "x")
    answer = engine.api(method, path, {} if method == "POST" else None)
    assert str(answer.status) == status[:3], answer.body
