"""The history of builds: bounded in number and age, pinned records stay, what a dead daemon left is failed."""

import asyncio
from types import SimpleNamespace

import pytest

from corten.api.buildkit.history import Recorder
from corten.api.buildkit.progress import Progress
from corten.api.buildkit.questions import BuildFailed, Place
from corten.base.errors import NotFound
from corten.base.units import now_ns
from corten.build.buildkit.messages import new
from corten.engine import build_history
from corten.engine.build_history import Attached, History, HistoryRecord
from corten.engine.db import Database


@pytest.fixture
def engine(tmp_path):
    database = Database(str(tmp_path / "db"))
    yield SimpleNamespace(db=database, layout=SimpleNamespace(build_history=str(tmp_path / "history")))
    database.close()


def loaded(engine):
    history = History(engine)
    history.load()
    return history


def built(history, ref, log=b"told"):
    record = HistoryRecord(ref)
    assert history.begin(record)
    history.end(record, log)
    return record


def test_the_oldest_go_and_pinned_ones_stay(engine, tmp_path):
    history = loaded(engine)
    built(history, "first")
    history.update("first", pinned=True, delete=False)
    for number in range(build_history.KEPT + 5):
        built(history, f"r{number}")
    refs = [record.ref for record in history.all()]
    assert len(refs) == build_history.KEPT + 1 and refs[0] == f"r{build_history.KEPT + 4}" and refs[-1] == "first"
    assert len(list((tmp_path / "history").iterdir())) == build_history.KEPT + 1
    assert [record.ref for record in history.all(limit=2)] == refs[:2]
    history.get("r20").ended_ns = now_ns() - build_history.AGE_NS - 1
    built(history, "last")
    assert history.get("r20") is None


def test_what_a_dead_daemon_left(engine, tmp_path):
    history = loaded(engine)
    built(history, "done")
    history.begin(HistoryRecord("open"))
    (tmp_path / "history/stray").write_bytes(b"x")
    again = loaded(engine)
    assert again.get("open").code and again.is_over("open") and again.log("done") == b"told"
    assert not (tmp_path / "history/stray").exists()
    with pytest.raises(NotFound):
        again.log("open")


def test_refs_that_are_no_file_names_are_not_kept(engine):
    history = loaded(engine)
    for ref in ("", "../x", "a/b", "x" * 200):
        assert not history.begin(HistoryRecord(ref))
    assert built(history, "a") and not history.begin(HistoryRecord("a"))
    with pytest.raises(NotFound):
        history.log("../db")


def test_who_listens_is_told(engine):
    asyncio.run(told(loaded(engine)))


async def told(history):
    news = history.listen()
    first = asyncio.ensure_future(anext(news))
    await asyncio.sleep(0)
    built(history, "a")
    history.update("a", pinned=False, delete=True)
    assert [(await first)[0], (await anext(news))[0], (await anext(news))[0]] == ["started", "completed", "deleted"]
    await news.aclose()


def test_documents_that_are_too_big_are_left_out(engine):
    history = loaded(engine)
    record = HistoryRecord("a", attached=[Attached("k", "sha256:1", 1, data=b"x" * (2 << 20)), Attached("k", "sha256:2", 1, data=b"y")])
    history.begin(record)
    history.end(record, b"")
    assert [one.digest for one in history.get("a").attached] == ["sha256:2"] and history.blob("sha256:2") == b"y"


def test_a_clients_words_are_kept_in_bounds(engine):
    history = loaded(engine)
    attributes = {f"build-arg:{number}": "v" for number in range(900)} | {"context": "https://user:secret@host/repo.git"}
    attributes = dict(reversed(attributes.items())) | {"label:big": "x" * (1 << 20)}
    request = new("SolveRequest", Ref="a", FrontendAttrs=attributes, Exporters=[new("Exporter", Type="image")])
    recorder = Recorder(history, request)
    error = BuildFailed("no", Place("Dockerfile", b"x" * (2 << 20), 1, 1))
    recorder.end(Progress(), {}, error)
    record = loaded(engine).get("a")
    assert len(record.attributes) <= 500 and all(len(value) <= 1 << 16 for value in record.attributes.values())
    assert not any("secret" in value for value in record.attributes.values())
    assert record.error == "no" and len(record.details) < 1000
