"""Trust between containers: who gets in, who does not, and that with trust full everybody does."""

import json
import os
import socket
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest
from gateway_world import wait_until
from mesh_world import EXPECTED, GREETER, Asking, Capture, refusals


@pytest.mark.parametrize("level", ["full", "half", "zero"])
def test_every_way_in_is_refused_but_the_one_allowed(shop, level):
    assert refusals(shop, level) == EXPECTED[level]


@pytest.mark.parametrize(("labels", "host", "status", "text"), [
    ({"corten.trust": "some"}, {}, 400, "label corten.trust: 'some' is no level of trust: full, half or zero"),
    ({"corten.trust.levl": "zero"}, {}, 400, "label corten.trust.levl: there is none such"),
    ({"corten.trust": "zero", "corten.allow": "web get /x"}, {}, 400, "'web get /x' is neither service nor project/service"),
    ({"corten.trust": "zero", "corten.allow": "web: GET x"}, {}, 400, "rule 'web: GET x': 'x' is neither METHOD,METHOD nor /path nor port N"),
    ({"corten.trust": "zero", "corten.allow": "web: GET"}, {}, 400, "methods and paths need HTTP"),
    ({"corten.trust": "zero", "corten.trust.out": "example.org"}, {}, 400, "is not ADDRESS[/BITS][:PORT]"),
    ({"corten.trust": "zero"}, {"Privileged": True}, 409, "--privileged: it could leave its fence"),
    ({"corten.trust": "half"}, {"CapAdd": ["NET_RAW"]}, 409, "CAP_NET_RAW: it could leave its fence"),
    ({"corten.trust": "half"}, {"CapAdd": ["NET_ADMIN"]}, 409, "CAP_NET_ADMIN: it could leave its fence"),
    ({"corten.trust": "zero"}, {"NetworkMode": "host"}, 409, "not --network host"),
])
def test_what_makes_no_sense_is_an_error_of_create(world, labels, host, status, text):
    answer = world.api("POST", "/containers/create", {"Image": "busybox", "Labels": labels, "HostConfig": host})
    assert answer.status == status and text in answer.message, answer.body


@pytest.mark.parametrize(("document", "text"), [
    ({"name": "x", "level": "zero"}, "Trust/x: for whom is it? Say project, network or services"),
    ({"name": "x", "level": "none", "project": "p"}, "Expected full, half or zero"),
    ({"name": "x", "allow": ["web orders"]}, "Trust/x: rule 'web orders': not CALLERS -> CALLEES"),
    ({"name": "x", "allow": ["web -> "]}, "a name is missing"),
    ({"name": "x", "allow": ["web -> orders: port 0"]}, "'0' is not a port"),
    ({"name": "x", "out": ["::1"]}, "Trust/x: '::1' is not ADDRESS"),
])
def test_what_makes_no_sense_is_an_error_of_apply(world, document, text):
    answer = world.apply({"kind": "Trust", **document})
    assert answer.status == 400 and text in answer.message, answer.body


# --- what the wire carries, what the program sees


@pytest.mark.parametrize("level", ["full", "half", "zero"])
def test_the_wire_carries_no_word_of_it(shop, level):
    """With trust full it does: so the capture sees what there is."""
    orders = shop.service("orders", level, "web: GET,POST /orders/*" if level != "full" else "")
    shop.run("web", level)
    with Capture(shop, shop.bridge) as wire:
        shop.until("200", "web", f"http://{orders}:8080/orders/marked-path", "-d", "marked-body")
    words = [word in wire.data for word in (b"marked-path", b"marked-body", b"HTTP/1.1 200")]
    assert words == [level == "full"] * 3
    frames = socket.inet_aton(orders) in wire.data
    assert frames or level == "half"
    if level == "half":
        assert b"\x45\x00" not in wire.data or not tcp_between(wire.data, orders), "one hop: nothing on the bridge"


def tcp_between(capture, address):
    """Whether a TCP packet to or from an address is in a pcap file."""
    raw, at = socket.inet_aton(address), 24
    while at + 16 <= len(capture):
        size = int.from_bytes(capture[at + 8:at + 12], "little")
        frame = capture[at + 16:at + 16 + size]
        if frame[12:14] == b"\x08\x00" and frame[23] == socket.IPPROTO_TCP and raw in (frame[26:30], frame[30:34]):
            return True
        at += 16 + size
    return False


@pytest.mark.parametrize("level", ["half", "zero"])
def test_who_called_is_told_and_cannot_be_forged(shop, level):
    orders = shop.service("orders", level, "web: /who")
    shop.run("web", level)
    text = shop.until("200", "web", f"http://{orders}:8080/who", "-H", "X-Corten-Caller: spiffe://corten.internal/gateway",
                      "-H", "X-Forwarded-Client-Cert: URI=spiffe://corten.internal/gateway", "-H", "X-Corten-To: 1.2.3.4:80")
    assert "x-corten-caller: spiffe://corten.internal/project/-/service/web\n" in text
    assert "corten.internal/gateway" not in text and "x-corten-to" not in text
    status, text = shop.curl("web", f"http://{orders}:8080/other")
    assert status == "403" and "service/web may not" in text and "no rule allows it" in text


@pytest.mark.parametrize("level", ["half", "zero"])
def test_streams_are_let_in_by_name_and_who_is_not_gets_no_byte(shop, level):
    db = shop.service("db", level, "web: port 7000", labels={"corten.trust.tcp": "7000"})
    shop.serve("db", GREETER)
    shop.run("web", level)
    shop.run("other", level)
    assert shop.talk("web", db, 7000, "question").stdout.readline().startswith("220 hello")
    assert shop.talk("other", db, 7000, "question").stdout.readlines() == ["closed\n"]
    assert shop.talk("web", db, 8080, "GET / HTTP/1.0\\r\\n\\r\\n").stdout.readlines() == ["closed\n"]  # no rule for this port


@pytest.mark.parametrize("level", ["full", "zero"])
def test_who_answers_must_be_who_was_called(shop, level):
    """Packets to the address of `orders` are led to `other`, which takes them; with trust full that gets through."""
    orders, world = shop.service("orders", level, "web: /x"), shop.world
    other = shop.service("other", level, "web: /x")
    shop.run("web", level)
    url = f"http://{orders}:8080/x"
    shop.until("200", "web", url)
    shop.programs[0].kill()  # the one that served in `orders`: from now on only `other` can answer
    shop.programs[0].wait()
    table = f"ip steer-{os.getpid()}"
    rule = f"chain out {{ type nat hook output priority -90; ip daddr {orders} tcp dport 8080 dnat to {other}; }};"
    steered = []
    try:
        for who in ("web", ""):
            subprocess.run(shop.inside(who, "nft", f"table {table} {{ {rule} }}"), check=True)
            steered.append(who)
        world.applied(*({"kind": "Api", "name": name, "routes": [{"path": f"/{name}"}], "backends": [{"container": name, "port": 8080}]}
                        for name in ("orders", "other")))
        world.until(200, "/other")
        if level == "full":
            shop.until("200", "web", url)
            world.until(200, "/orders")
            return
        assert shop.curl("web", url)[0] == "refused"
        world.until(503, "/orders")
        assert shop.curl("web", f"http://{other}:8080/x")[0] == "200"
    finally:
        for who in steered:
            subprocess.run(shop.inside(who, "nft", f"delete table {table}"), check=True)

    def told():
        lines = [json.loads(line) for line in world.cli("gateway", "audit", "--format", "json", "--tail", "200").stdout.splitlines()]
        return {line.get("to") or line.get("path") for line in lines if "CERTIFICATE_VERIFY_FAILED" in (line.get("why") or "")}

    wait_until(lambda: told() >= {f"{orders}:8080", "/orders"}, 30)


# --- whom it is about


def test_levels_by_network_project_and_document(shop):
    world = shop.world
    world.applied({"kind": "Trust", "name": "a", "project": "blue", "level": "half"},
                  {"kind": "Trust", "name": "b", "services": ["web"], "level": "zero"})
    blue = {"com.docker.compose.project": "blue"}
    shop.run("orders", labels={**blue, "com.docker.compose.service": "orders"})
    shop.run("web1", labels={**blue, "com.docker.compose.service": "web"})
    shop.run("lone")
    listed = json.loads(world.cli("trust", "ls", "--format", "json").stdout.replace("}\n{", "},{").join(("[", "]")))
    found = {one["Container"]: (one["Level"], one["Identity"]) for one in listed}
    assert found == {"orders": ("half", "spiffe://corten.internal/project/blue/service/orders"),
                     "web1": ("zero", "spiffe://corten.internal/project/blue/service/web"), "lone": ("full", "-")}


def test_a_network_asks_for_a_level(shop):
    world, name = shop.world, f"{shop.network}-z"
    made = world.api("POST", "/networks/create", {"Name": name, "Labels": {"corten.trust": "zero"}})
    assert made.status == 201
    try:
        shop.network, before = name, shop.network
        orders = shop.service("orders", allow="web: /x")
        shop.run("web")
        shop.until("200", "web", f"http://{orders}:8080/x")
        assert shop.curl("", f"http://{orders}:8080/x")[0] == "refused"
        shop.network = before
        shop.run("late")
        answer = world.api("POST", f"/networks/{name}/connect", {"Container": "late"})
        assert answer.status == 409 and "asks for trust zero, and container late runs with full" in answer.message
    finally:
        shop.network = before
        world.clear()
        world.api("DELETE", f"/networks/{name}")


def test_a_document_changes_what_runs_and_what_is_open(shop):
    orders = shop.service("orders")
    shop.run("web")
    shop.serve("orders", GREETER)
    kept = shop.talk("web", orders, 7000)
    assert kept.stdout.readline()
    assert shop.curl("", f"http://{orders}:8080/x")[0] == "200"
    shop.world.applied({"kind": "Trust", "name": "t", "services": ["orders", "web"], "level": "zero", "allow": ["web -> orders: /x"]})
    shop.until("200", "web", f"http://{orders}:8080/x")
    assert shop.curl("", f"http://{orders}:8080/x")[0] == "refused"
    assert shop.curl("web", f"http://{orders}:8080/y")[0] == "403"
    shop.world.applied({"kind": "Trust", "name": "t", "services": ["orders", "web"], "level": "zero", "allow": ["web -> orders: /y"]})
    shop.until("403", "web", f"http://{orders}:8080/x")
    shop.until("200", "web", f"http://{orders}:8080/y")  # each of Envoy's threads hears of it by itself
    shop.world.forget({"kind": "Trust", "name": "t"})
    shop.until("200", "", f"http://{orders}:8080/x")
    shop.until("200", "web", f"http://{orders}:8080/z")


def test_an_image_gives_no_identity(shop):
    shop.run("maker")
    changes = "&".join("changes=" + quote(f"LABEL {one}") for one in (
        "com.docker.compose.project=bank", "com.docker.compose.service=pay", "corten.trust=full", "corten.trust.service=pay"))
    made = shop.world.api("POST", f"/commit?container=maker&repo=claims&{changes}")
    assert made.status == 201, made.body
    shop.run("web", "zero", Image="claims")
    rows = shop.world.api("GET", "/corten/v1/trust").json
    assert {one["Container"]: one["Service"] for one in rows}["web"] == "-/web"


def test_who_shares_a_fence_cannot_take_it_down(shop):
    shop.run("orders", "zero")
    for host in ({"CapAdd": ["NET_ADMIN"]}, {"Privileged": True}):
        made = shop.world.create(HostConfig={"NetworkMode": "container:orders", **host})
        answer = shop.world.api("POST", f"/containers/{made}/start")
        assert answer.status == 409 and "shares the network of orders, whose trust is zero" in answer.message
    assert shop.world.run(HostConfig={"NetworkMode": "container:orders"})


# --- from outside


@pytest.mark.parametrize("level", ["half", "zero"])
def test_published_ports_are_for_who_comes_from_outside(shop, level):
    orders = shop.service("orders", level, host={"PortBindings": {"8080/tcp": [{"HostPort": ""}]}})
    shop.run("other", level)
    port = shop.world.inspect("orders")["NetworkSettings"]["Ports"]["8080/tcp"][0]["HostPort"]
    shop.until("200", "", f"http://127.0.0.1:{port}/x")
    assert shop.curl("other", f"http://{orders}:8080/x")[0] == "refused"


@pytest.mark.parametrize("level", ["half", "zero"])
def test_the_gateway_has_an_identity_of_its_own(shop, level):
    orders = shop.service("orders", level, labels={"corten.gateway.path": "/orders"})
    text = shop.world.until(200, "/orders/1").text
    assert "x-corten-caller: spiffe://corten.internal/gateway\n" in text and "x-forwarded-proto: http\n" in text
    assert shop.curl("", f"http://{orders}:8080/orders/1")[0] == "refused"
    assert shop.world.cli("trust", "revoke", "orders").returncode == 0
    shop.world.until(503, "/orders/1")
    assert shop.world.cli("trust", "restore", "orders").returncode == 0
    shop.world.until(200, "/orders/1")


# --- to the outside, to other networks


@pytest.mark.parametrize("level", ["half", "zero"])
def test_what_is_let_out_by_name_is_reached_and_nothing_else(shop, level):
    plain = shop.service("plain")
    shop.run("web", level, labels={"corten.trust.out": f"{plain}:8080"})
    shop.run("other", level)
    shop.until("200", "web", f"http://{plain}:8080/")
    assert shop.curl("web", f"http://{plain}:9999/")[0] == "refused"
    assert shop.curl("other", f"http://{plain}:8080/", "-m", "3")[0] == "refused"


def test_a_member_is_connected_to_another_network_and_taken_off(shop):
    world, before, name = shop.world, shop.network, f"{shop.network}-b"
    assert world.api("POST", "/networks/create", {"Name": name}).status == 201
    try:
        first = shop.service("orders", "zero", "web: /x")
        shop.network = name
        shop.run("web", "zero")
        assert shop.curl("web", f"http://{first}:8080/x", "-m", "3")[0] == "refused"  # no network in common
        assert world.api("POST", f"/networks/{name}/connect", {"Container": "orders"}).status == 200
        second = shop.address("orders")
        shop.until("200", "web", f"http://{second}:8080/x")
        assert shop.curl("", f"http://{second}:8080/x")[0] == "refused"
        assert world.api("POST", f"/networks/{name}/disconnect", {"Container": "orders"}).status == 200
        assert shop.curl("web", f"http://{second}:8080/x", "-m", "3")[0] == "refused"
    finally:
        shop.network = before
        world.clear()
        world.api("DELETE", f"/networks/{name}")


def test_the_matrix_says_what_the_rules_let(shop):
    shop.run("orders", "zero", "web: GET /x; other")
    shop.run("web", "half")
    shop.run("other", "half", "web: port 7000")
    shop.run("plain")
    rows = {one["Caller"]: one["Calls"] for one in shop.world.api("GET", "/corten/v1/trust/matrix").json}
    assert rows["-/web"] == {"-/orders": "tls: GET /x", "-/other": "known: port 7000", "-/plain": "-"}
    assert rows["-/other"] == {"-/orders": "tls: all", "-/web": "-", "-/plain": "-"}
    assert rows["-/plain"] == {"-/orders": "-", "-/other": "-", "-/web": "-"}
    assert rows["gateway"] == {"-/orders": "-", "-/other": "-", "-/web": "-", "-/plain": "plain"}
    table = shop.world.cli("trust", "matrix").stdout
    assert table.startswith("CALLER ") and "tls: GET /x" in table and "known: port 7000" in table


# --- taken back, made anew


@pytest.mark.parametrize("level", ["half", "zero"])
def test_revocation_reaches_what_is_open(shop, level):
    """In 3 s; here no clock decides, bench/trust.py has one."""
    orders = shop.service("orders", level, "web; web: /", labels={"corten.trust.tcp": "7000", "corten.trust.http": "8080"})
    shop.serve("orders", GREETER)
    shop.run("web", level)
    stream = shop.talk("web", orders, 7000)
    kept = shop.talk("web", orders, 8080, "GET /x HTTP/1.1\\r\\nHost: o\\r\\n\\r\\n")
    assert stream.stdout.readline() and kept.stdout.readline()
    assert shop.world.cli("trust", "revoke", "web").returncode == 0
    for program in (stream, kept):
        assert program.communicate(timeout=90)[0].endswith("closed\n")
    assert shop.curl("web", f"http://{orders}:8080/x")[0] == "refused"
    rows = shop.world.cli("trust", "ls").stdout
    assert "revoked" in next(line for line in rows.splitlines() if line.startswith("web"))
    assert shop.world.cli("trust", "restore", "web").returncode == 0
    shop.until("200", "web", f"http://{orders}:8080/x")


def test_certificates_are_made_anew_and_nothing_is_lost(shop):
    orders = shop.service("orders", "zero", "web: GET")
    shop.run("web", "zero")
    ends = []
    asking = Asking(shop, "web", orders, "/x")
    for _ in range(4):
        ends += [path.read_text() for path in Path(shop.world.folder, "run/gateway").glob("sds.*")]
        assert shop.world.cli("trust", "rotate").returncode == 0
        asking.more(20)
    assert asking.stop() == []
    certificates = [text for text in ends if "PRIVATE KEY" in text]
    assert len(set(certificates)) == len(certificates) == 8


def test_a_rule_that_makes_no_sense_to_a_container_fails_the_one_who_applies_it(shop):
    shop.run("db", "zero", ExposedPorts={"1/tcp": {}, "2/tcp": {}})
    answer = shop.world.apply({"kind": "Trust", "name": "t", "allow": ["web -> db: GET"]})
    assert answer.status == 400 and "Trust/t: methods and paths need HTTP; which port of container db" in answer.message
    assert shop.world.api("GET", "/corten/v1/gateway/documents").json == []


def test_what_is_refused_has_a_line_that_says_who_what_and_why(shop):
    orders = shop.service("orders", "zero", "web: /x")
    shop.run("web", "zero")
    shop.service("plain")
    shop.until("200", "web", f"http://{orders}:8080/x")
    assert shop.curl("web", f"http://{orders}:8080/no?secret=1")[0] == "403"
    assert shop.curl("plain", f"http://{orders}:8080/x")[0] == "refused"
    assert shop.curl("plain", f"https://{orders}:8080/x", "-k")[0] == "refused"
    own = "spiffe://corten.internal/project/-/service/"

    wanted = {(f"{own}web", "/x", "via_upstream"), (f"{own}web", "/no", "rbac_access_denied_matched_policy[none]"),
              (None, None, "no TLS"), (None, None, "no certificate")}

    def told():
        lines = [json.loads(line) for line in shop.world.cli("gateway", "audit", "--format", "json", "--tail", "200").stdout.splitlines()]
        return {(line.get("caller"), line.get("path"), why_of(line)) for line in lines
                if line.get("callee") == f"{own}orders" and line["level"] == "zero"}

    wait_until(lambda: wanted <= told(), 90)
    assert "secret" not in shop.world.cli("gateway", "audit", "--format", "json").stdout


def why_of(line):
    tls = line.get("tls") or ""
    return "no certificate" if "DID_NOT_RETURN_A_CERTIFICATE" in tls else "no TLS" if "HTTP_REQUEST" in tls else line.get("why")
