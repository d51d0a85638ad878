"""The language of who may call whom."""

import pytest

from corten.base.errors import InvalidArgument
from corten.gateway import trust


def said(rule):
    return rule.callers, rule.callees, rule.methods, rule.paths, rule.ports


@pytest.mark.parametrize(("text", "wanted"), [
    ("web -> orders", (["shop/web"], ["shop/orders"], [], [], [])),
    ("web, bank/pay -> orders,users: GET,POST /a /b/* port 80,81",
     (["shop/web", "bank/pay"], ["shop/orders", "shop/users"], ["GET", "POST"], ["/a", "/b/*"], [80, 81])),
    ("* -> db: port 5432", (["shop/*"], ["shop/db"], [], [], [5432])),
    ("-/cron -> orders: /", (["-/cron"], ["shop/orders"], [], ["/"], [])),
])
def test_rules_of_documents(text, wanted):
    assert said(trust.rule(text, "shop", "Trust/x")) == wanted


def test_a_label_is_about_its_own_container():
    rule = trust.rule("web: GET /a", "", "container o", "-/orders")
    assert said(rule) == (["-/web"], ["-/orders"], ["GET"], ["/a"], [])
    assert rule.lets("-/web") and not rule.lets("shop/web") and not rule.lets("-/webb")
    every = trust.rule("*", "shop", "container o", "shop/orders")
    assert every.lets("shop/web") and not every.lets("shopping/web") and not every.lets("gateway")


@pytest.mark.parametrize("text", [
    "", "web", "-> orders", "web ->", "web -> orders -> db", "we b -> orders", "web -> orders: GET POST", "web -> orders: get",
    "web -> orders: port", "web -> orders: port 65536", "web -> orders: port \u0661", "web -> orders: /a?b", "web -> orders: /a**",
    "a/b/c -> orders", "../x -> orders", "web -> orders: GET,", "/x -> orders",
])
def test_what_is_no_rule(text):
    with pytest.raises(InvalidArgument, match=r"^Trust/x: "):
        trust.rule(text, "shop", "Trust/x")


def test_identities_and_levels():
    assert trust.uri("d.example", "shop/web") == "spiffe://d.example/project/shop/service/web"
    assert trust.uri("d.example", "gateway") == "spiffe://d.example/gateway"
    assert trust.strictest(["half", "zero", "full"]) == "zero" and trust.strictest([]) == "full"
