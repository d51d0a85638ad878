"""The gateway's pure parts: labels, documents, conflicts, order, route tables, explanations."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corten.base.errors import Conflict, InvalidArgument, NotFound
from corten.gateway import model, render
from corten.gateway.audit import tail
from corten.gateway.explain import explain
from corten.gateway.labels import api_of
from corten.gateway.resolve import Instance, resolve
from corten.gateway.xds import stat_name
from corten.gateway.xds_mesh import Site
from corten.gateway.xds_shapes import seconds

ROOT = Path(__file__).parents[2]


def place():
    return render.Place(Site("/run/gw", "/var/audit.log", "d.example", "/run/mesh"), ("0.0.0.0", 80), ("0.0.0.0", 443), lambda path: "file " + path,
                        lambda hosts: ("chain", "key"))


def docs(*values):
    return [model.to_document(value) for value in values]


def api(name, path="/", **more):
    return {"kind": "Api", "name": name, "routes": [{"path": path}], "backends": [{"address": "10.0.0.9:80"}], **more}


def instance(name, labels=None, ports=(80,), address="10.0.0.2"):
    return Instance("0" * 64, name, {f"corten.gateway.{k}": v for k, v in (labels or {}).items()}, address, list(ports))


def test_the_published_schema_is_the_model():
    assert json.loads((ROOT / "docs/gateway.schema.json").read_text()) == json.loads(json.dumps(model.schema()))


def test_labels_say_all_that_a_policy_can():
    found = api_of({
        "path": "/orders", "methods": "GET,POST", "port": "8080", "rate": "5/s", "rate.per": "client", "retry.attempts": "3",
        "cors.origins": "https://a,https://b", "cors.credentials": "true", "headers.response.set.X-A": "b",
        "allow.claims.role": "admin,clerk", "compress": "gzip", "header.X-B": "1", "query.q": "*", "tls": "only",
    }, "orders", "shop")
    assert model.key_of(found) == "Api/shop.orders"
    assert model.to_plain(found) == {
        "kind": "Api", "name": "orders", "project": "shop", "tls": {"mode": "only"}, "backends": [{"port": 8080}],
        "routes": [{"path": "/orders", "methods": ["GET", "POST"], "headers": {"X-B": "1"}, "query": {"q": "*"}, "policy": {}}],
        "policy": {
            "rates": [{"limit": "5/s", "per": "client"}], "compress": ["gzip"], "allow": [{"claims": {"role": ["admin", "clerk"]}}],
            "retry": {"attempts": 3, "on": ["connect-failure", "refused-stream", "reset-before-request"]},
            "cors": {"origins": ["https://a", "https://b"], "credentials": True, "headers": ["*"],
                     "methods": ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]},
            "headers": {"request": {}, "response": {"set": {"X-A": "b"}}}},
    }


@pytest.mark.parametrize("value", [
    {"kind": "Api", "name": "x\n"}, {"kind": "Api", "name": "../x"}, {"kind": "Api", "name": "x", "hosts": ["a b"]},
    {"kind": "Api", "name": "x", "routes": [{"path": "/a?b"}]}, {"kind": "Api", "name": "x", "routes": [{"headers": {"a\n": "b"}}]},
    {"kind": "Policy", "name": "x", "rates": [{"limit": "0/s"}]}, {"kind": "Policy", "name": "x", "errors": {"200": {"body": ""}}},
    {"kind": "Policy", "name": "x", "headers": {"request": {"set": {"a": "b\r\nc: d"}}}}, [], None, {"kind": ["Api"]},
])
def test_documents_out_of_shape(value):
    with pytest.raises(InvalidArgument):
        model.to_document(value)


def test_equal_routes_conflict_and_special_ones_do_not():
    def both(first, second, **more):
        return resolve(docs({**api("a"), "routes": [first]}, {**api("b", **more), "routes": [second]}), [])

    for pair in (({"path": "/x"}, {"path": "/x/"}), ({}, {"path": "/"}), ({"exact": "/x"}, {"exact": "/x"}),
                 ({"methods": ["GET", "PUT"]}, {"methods": ["PUT"]}), ({"headers": {"A": "1"}}, {"headers": {"a": "1"}})):
        with pytest.raises(Conflict, match=r"document Api/b: .* is taken by document Api/a"):
            both(*pair)
    for pair in (({"path": "/x"}, {"exact": "/x"}), ({"path": "/x"}, {"path": "/x/y"}), ({}, {"methods": ["GET"]}),
                 ({"methods": ["GET"]}, {"methods": ["PUT"]}), ({"path": "/x"}, {"path": "/x", "query": {"v": "1"}})):
        both(*pair)
    both({"path": "/x"}, {"path": "/x"}, hosts=["shop.example"])


def test_what_is_tried_first():
    served = resolve(docs({"kind": "Api", "name": "a", "backends": [{"address": "h:1"}], "routes": [
        {"path": "/"}, {"path": "/a"}, {"path": "/a/b"}, {"exact": "/a"}, {"regex": "/a.*"}, {"path": "/a", "methods": ["GET"]},
        {"path": "/a", "headers": {"x": "1"}}]}, api("h", "/a", hosts=["h.example"]), api("w", "/", hosts=["*.example"])), [])
    assert [entry.name for entry in served.of_host("*")] == ["a#3", "a#4", "a#2", "a#6", "a#5", "a#1", "a#0"]
    assert [entry.name for entry in served.of_host("h.example")][:2] == ["h#0", "w#0"]
    assert next(entry.name for entry in served.of_host("*.example")) == "w#0"


def test_names_that_are_not_there():
    with pytest.raises(NotFound, match="no Policy strict"):
        resolve(docs(api("a", policies=["strict"])), [])
    with pytest.raises(InvalidArgument, match="neither backends nor redirect"):
        resolve(docs({"kind": "Api", "name": "a"}), [])
    with pytest.raises(InvalidArgument, match="exposes 80, 81"):
        resolve([], [instance("c", {"path": "/"}, ports=(80, 81))])


def test_policies_merge_member_by_member_and_later_ones_win():
    served = resolve(docs(
        {"kind": "Policy", "name": "p", "timeout": "1s", "maxBody": "1k"}, {"kind": "Policy", "name": "q", "timeout": "2s"},
        api("a", policies=["p", "q"], routes=[{"path": "/x", "policy": {"timeout": "3s"}}, {"path": "/y"}])), [])
    assert [(entry.policy.timeout, entry.policy.max_body) for entry in served.entries] == [("3s", "1k"), ("2s", "1k")]


def test_versions_of_one_api_share_weights():
    served = resolve([], [instance("a", {"path": "/", "name": "x", "weight": "90", "version": "1"}),
                          instance("b", {"path": "/", "name": "x", "weight": "90", "version": "1"}, address="10.0.0.3"),
                          instance("c", {"path": "/", "name": "x", "weight": "10", "version": "2"}, address="10.0.0.4")])
    assert [(cluster.name, weight, len(cluster.endpoints)) for cluster, weight in served.entries[0].targets] == [
        ("x||1", 90, 2), ("x||2", 10, 1)]


@pytest.mark.parametrize(("policy", "text"), [
    ({"jwt": {}}, "needs one of keys"), ({"jwt": {"keys": "{}"}}, "not a JSON Web Key Set"),
    ({"allow": [{"claims": {"a": ["b"]}}]}, "jwt is needed"), ({"allow": [{"keys": ["a"]}]}, "apiKeys is needed"),
    ({"apiKeys": {"keys": {"a": "x" * 8, "b": "x" * 8}}}, "two names have the same key"),
    ({"cors": {"credentials": True}}, "credentials for every origin"), ({"compress": ["lzma"]}, "compress 'lzma'"),
    ({"rates": [{"limit": "1/s", "per": "key"}]}, "needs apiKeys"), ({"rates": [{"limit": "1/s"}, {"limit": "2/s"}]}, "two rates"),
    ({"timeout": "1x"}, "invalid duration"), ({"retry": {"on": ["never"]}}, "'never' is not known"),
    ({"rewrite": {"path": "x"}}, "no absolute path"), ({"authorizer": {}}, "one of url and grpc"),
    ({"maxBody": "0"}, "must be above 0"),
])
def test_policies_that_make_no_sense(policy, text):
    with pytest.raises(InvalidArgument, match=text):
        render.files(resolve(docs(api("a", policy=policy)), []), place(), {})


def test_the_same_model_gives_the_same_files_and_hosts_with_client_certificates_are_apart():
    given = docs(api("a", "/a"), api("s", "/s", hosts=["s.example"], tls={"clients": "/ca.pem"}), api("o", hosts=["o.example"], tls={}))
    files = render.files(resolve(given, []), place(), {})
    assert json.dumps(files) == json.dumps(render.files(resolve(given[::-1], []), place(), {}))
    hosts = {name: [one["name"] for one in files[f"rds.{name}"][0]["virtual_hosts"]] for name in ("http", "https", "clients1")}
    assert hosts == {"http": ["o.example", "s.example", "*"], "https": ["o.example", "*"], "clients1": ["s.example"]}
    with pytest.raises(InvalidArgument, match=r"say the same tls\.clients"):
        render.files(resolve(docs(api("s", hosts=["s.example"], tls={"clients": "/ca"}), api("t", "/t", hosts=["s.example"])), []), place(), {})


@given(st.text(max_size=40))
def test_explaining_any_url_never_breaks(text):
    served = resolve(docs(api("a", "/a"), api("b", "/b", hosts=["b.example"])), [])
    try:
        assert explain(served, {"Url": f"http://b.example/{text}", "Method": "GET", "Headers": []}, place())["Steps"]
    except InvalidArgument:
        pass


def test_explain_says_why_not():
    served = resolve(docs({**api("a"), "routes": [{"path": "/a", "methods": ["PUT"]}, {"path": "/a", "headers": {"X": "1"}}]}), [])
    steps = explain(served, {"Url": "http://any/a", "Method": "GET", "Headers": [("x", "2")]}, place())["Steps"]
    assert steps[1].endswith("the header X is '2'") and steps[2].endswith("the method is none of PUT") and steps[3] == "no route takes it: 404"


def test_small_words():
    assert [seconds(text, "t") for text in ("1m30s", "500ms", "0")] == ["90s", "0.5s", "0s"]
    assert stat_name("shop.a#1") == "shop_a_1"


def test_the_tail_of_the_log(tmp_path):
    log = tmp_path / "audit.log"
    assert tail(str(log), 5) == []
    (tmp_path / "audit.log.1").write_bytes(b"".join(b"old %d\n" % n for n in range(9)))
    log.write_bytes(b"".join(b"new %d %s\n" % (n, b"x" * 30000) for n in range(5)) + b"half a li")
    assert [line.split()[:2] for line in tail(str(log), 7)] == [
        [b"old", b"7"], [b"old", b"8"], *([b"new", b"%d" % n] for n in range(5))]
    assert tail(str(log), 0) == []



def test_a_log_of_one_line(tmp_path):
    (tmp_path / "a").write_bytes(b"one\n")
    assert tail(str(tmp_path / "a"), 9) == [b"one"]
