"""What `corten gateway ui` counts, from audit lines."""

import pytest

from corten.cli import gateway_calls
from corten.cli.gateway_calls import Calls, caller, reason


@pytest.mark.parametrize(("why", "status", "route", "words"), [
    ("via_upstream", 200, "a#0", ""), ("via_upstream", 404, "a#0", ""), ("direct_response", 200, "a#0", ""),
    ("direct_response", 404, "none", "no route takes it"), ("direct_response", 410, "a@v1#0", "switched off"),
    ("jwt_authn_access_denied{Jwt_is_missing}", 401, "a#0", "no valid token"), ("missing_api_key", 401, "a#0", "no API key"),
    ("rbac_access_denied_matched_policy[none]", 403, "a#0", "no rule lets it"), ("local_rate_limited", 429, "a#0", "above the rate"),
    ("upstream_reset_before_response_started{overflow}", 503, "a#0", "the circuit is open"), ("overflow", 503, "a#0", "the circuit is open"),
    ("upstream_reset_before_response_started{connection_termination}", 503, "a#0", "the backend is not reached"),
    ("some_new_reason{x}", 400, "a#0", "some new reason"), ("", 400, "None", "refused"), ("", 401, "a#0", "no valid token or key"),
])
def test_reasons_in_words(why, status, route, words):
    assert reason(why, status, route) == words


def test_who_calls():
    line = {"subject": "ann", "key": "mobile", "certificate": "CN=x", "client": "10.0.0.5"}
    assert caller(line) == ("ann", "token")
    assert caller({**line, "subject": None}) == ("mobile", "key")
    assert caller({"certificate": None, "client": "10.0.0.5"}) == ("10.0.0.5", "address")
    assert caller({"caller": "spiffe://x/project/shop/service/orders", **line}) == ("shop.orders", "identity")
    assert caller({"caller": "spiffe://x/project/-/service/orders"}) == ("orders", "identity")
    assert caller({"caller": "spiffe://x/gateway"}) == ("gateway", "identity")


def line(second, **more):
    return {"time": f"2026-12-01T10:00:{second:02}.5Z", "route": "shop.orders#0", "method": "GET", "status": 200, "why": "via_upstream", "ms": second,
            "backend": "10.0.0.9:80", "client": "10.0.0.5", **more}


NOW = 1796119259 + 1  # 2026-12-01T10:00:59Z, and one


def test_a_window_its_rates_and_latencies():
    calls = Calls({"10.0.0.5": "web"})
    for second in range(40, 60):
        calls.add(line(second))
    calls.add(line(59, status=503, why="overflow", backend=None))
    calls.add(line(59, status=429, why="local_rate_limited", backend=None, client="1.2.3.4"))
    calls.containers["10.0.0.9"] = "orders-1"
    told = calls.told(10, NOW)
    assert told["whole"] == {"requests": 12, "rate": 1.2, "errors": 1, "refused": 1, "p50": 55, "p95": 59}
    assert sum(all_ for all_, _ in told["curve"]) == 12 and sum(bad for _, bad in told["curve"]) == 2
    assert [(one["caller"], one["by"], one["api"], one["requests"]) for one in told["calls"]] == [
        ("web", "container", "shop.orders", 11), ("1.2.3.4", "address", "shop.orders", 1)]
    assert [(one["api"], one["backend"], one["requests"]) for one in told["ends"]] == [("shop.orders", "orders-1", 10)]
    assert {(one["reason"], one["caller"], one["requests"]) for one in told["refused"]} == {
        ("the circuit is open", "web", 1), ("above the rate", "1.2.3.4", 1)}
    assert [one["status"] for one in told["latest"]] == [429, 503]
    assert calls.told(3600, NOW)["whole"]["requests"] == 22
    assert Calls().told(60, NOW)["whole"]["p95"] is None


def test_calls_between_services():
    """What services ask each other is counted by their identities; the edge's own way inside is counted once."""
    name = "spiffe://x/project/shop/service/{}".format
    calls = Calls({"10.0.0.9": "notify"})
    inside = {"caller": name("orders"), "callee": name("notify"), "route": "mesh", "method": "POST"}
    calls.add(line(50, **inside))
    calls.add(line(50, **{**inside, "caller": name("catalogue"), "status": 403, "why": "rbac_access_denied_matched_policy[none]"}))
    calls.add(line(50, **{**inside, "caller": "spiffe://x/gateway"}))
    calls.add({"time": "2026-12-01T10:00:51Z", "caller": None, "callee": name("db"), "client": "10.0.0.7", "ms": 1, "tls": "no certificate"})
    calls.add({"time": "2026-12-01T10:00:51Z", "caller": name("orders"), "callee": name("db"), "client": "10.0.0.7", "ms": 1})
    told = calls.told(60, NOW)
    assert {(one["caller"], one["api"], one["requests"], one["errors"], one["refused"]) for one in told["calls"]} == {
        ("shop.orders", "shop.notify", 1, 0, 0), ("shop.catalogue", "shop.notify", 1, 0, 1), ("10.0.0.7", "shop.db", 1, 0, 1),
        ("shop.orders", "shop.db", 1, 0, 0)}
    assert {one["reason"] for one in told["refused"]} == {"no rule lets it", "no trusted certificate"}


def test_lines_of_strangers_do_no_harm_and_do_not_pile_up(monkeypatch):
    monkeypatch.setattr(gateway_calls, "KEPT", 500)
    calls = Calls()
    for odd in ({}, {"time": 5, "status": "x", "ms": None, "route": ["x"], "why": 7}, {"time": "2026-99-99T99:99:99Z"}):
        calls.add(odd)
    for number in range(510):
        calls.add(line(50, client=f"client {number}"))
    told = calls.told(3600, NOW)
    assert told["whole"]["requests"] == 500 and len(told["calls"]) == 200
