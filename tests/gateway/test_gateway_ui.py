"""The page for people: what a browser shows of the gateway, and who is shown nothing."""

import contextlib
import http.client
import os
import subprocess
from urllib.parse import urlsplit

import pytest
from browser import PROGRAM, Browser
from corten_command import COMMAND, corten
from gateway_world import Backend, wait_until

needs_browser = pytest.mark.skipif(PROGRAM is None, reason="machine: no Chromium to be had here")


@contextlib.contextmanager
def page(world, *flags):
    """`corten gateway ui` while it runs; the address it printed."""
    process = subprocess.Popen([*COMMAND, "-H", f"unix://{world.socket}", "gateway", "ui", *flags], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        address = process.stdout.readline().strip()
        assert address, f"it did not start: {process.wait(30)}"
        yield address
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def asked(address, path, method="GET", **headers):
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        connection.close()


def test_only_who_has_the_key_is_told_anything(world):
    with page(world) as address:
        key, here = urlsplit(address).fragment, urlsplit(address).netloc
        assert len(key) >= 40 and urlsplit(address).hostname == "127.0.0.1"
        status, headers, text = asked(address, "/")
        assert status == 200 and "<script src=\"/page.js\"" in text and key not in text
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert headers["Referrer-Policy"] == "no-referrer" and "Set-Cookie" not in headers
        for path in ("/now", "/explain?url=http://x/", "/anything"):
            assert asked(address, path)[0] == 401
            assert asked(address, path, X_Corten_Key=key[:-1] + "?")[0] == 401
            assert asked(address, path + ("&" if "?" in path else "?") + f"key={key}")[0] == 401
        assert asked(address, "/now", X_Corten_Key=key)[0] == 200
        assert asked(address, "/now", X_Corten_Key=key, Host=here.replace("127.0.0.1", "localhost"))[0] == 200
        for odd in ({"Host": "evil.example"}, {"Host": f"evil.example:{here.partition(':')[2]}"}, {"Sec_Fetch_Site": "cross-site"},
                    {"Sec_Fetch_Site": "same-site"}):
            assert asked(address, "/now", X_Corten_Key=key, **odd)[0] == 403, odd
            assert asked(address, "/", **odd)[0] == 403, odd
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            assert asked(address, "/now", method, X_Corten_Key=key)[0] == 501
        for path in ("/../../etc/passwd", "/page", "/containers/json", "//etc/passwd"):
            assert asked(address, path, X_Corten_Key=key)[0] == 404
        assert asked(address, "/explain?url=nonsense", X_Corten_Key=key)[0] == 400
        assert "Access-Control-Allow-Origin" not in headers


def test_where_it_may_be(world):
    for wrong in ("0.0.0.0:0", "192.0.2.1:80", "[::]:80", "127.0.0.1", "127.0.0.1:99999", "x:1"):
        done = world.cli("gateway", "ui", "--listen", wrong)
        assert done.returncode == 1 and f"invalid --listen {wrong}" in done.stderr
    with page(world, "--listen", "127.0.0.2:0") as address:
        assert urlsplit(address).hostname == "127.0.0.2"
        done = world.cli("gateway", "ui", "--listen", urlsplit(address).netloc)
        assert done.returncode == 1 and "Address already in use" in done.stderr
    assert corten("/nowhere.sock", "gateway", "ui").returncode == 1


@pytest.fixture
def busy(own_world):
    """Two services, one with keys and an old version, and requests that went well and did not."""
    world = own_world
    with Backend(lambda asked: (500 if "broken" in asked.line else 200, {}, b"ok")) as backend:
        world.echo("users", {"corten.gateway.path": "/users"})
        world.applied(
            {"kind": "Api", "name": "orders", "routes": [{"path": "/orders"}], "backends": [{"address": backend.address}], "policy": {
                "apiKeys": {"keys": {"mobile": "mobile-key", "partner": "partner-key"}}, "circuit": {"requests": 50},
                "allow": [{"keys": ["mobile"]}, {"keys": ["partner"], "methods": ["GET"]}]}},
            {"kind": "Version", "name": "v1", "api": "orders", "path": "/v1", "deprecated": "2026-01-01", "sunset": "2099-01-01"})
        mobile, partner = ("-H", "X-Api-Key: mobile-key"), ("-H", "X-Api-Key: partner-key")
        world.until(200, "/users/1")
        world.until(200, "/orders/1", *mobile)
        assert [world.curl(*words).status for words in (
            ("/v1/orders", *mobile), ("/orders", "-XPOST", *partner), ("/orders",), ("/orders/broken", *mobile), ("/nowhere",))] == [
                200, 403, 401, 500, 404]
        yield world


@needs_browser
def test_a_browser_shows_what_goes_on(busy, tmp_path):
    with page(busy) as address, Browser() as browser:
        browser.open(address)
        browser.until("document.querySelectorAll('#windows button').length === 4")
        browser.ask("document.querySelector('#windows button:last-child').click()")  # an hour: however slow this machine is
        browser.until("Number(document.body.dataset.shown) >= 7")
        assert browser.ask("location.hash + location.search") == "", "the key is not left in the address"
        shown = browser.text("#calls")
        for words in ("mobile\tkey\torders", "partner\tkey\torders", "127.0.0.1\taddress\tno route"):
            assert words in shown, shown
        assert "*/users" in browser.text("#routes") and "apiKeys" in browser.text("#routes")
        for words in ("no rule lets it\tpartner key", "no API key\t127.0.0.1", "no route takes it"):
            assert words in browser.text("#refused"), browser.text("#refused")
        versions = browser.text("#versions")
        assert "orders v1" in versions and "deprecated" in versions and "mobile · 1" in versions, versions
        assert "closed" in browser.text("#circuits")
        assert browser.ask("[...document.querySelectorAll('#graph text')].map((one) => one.textContent)").count("users") == 2
        assert browser.ask("document.querySelectorAll('#graph .edge.bad').length") >= 1
        browser.ask("document.getElementById('url').value = 'http://any/users/7'; document.getElementById('ask').requestSubmit()")
        browser.until("document.getElementById('steps').innerText.includes('users#0')")
        # it goes on by itself, and what strangers write stays text
        busy.curl("/nowhere", "-H", "Host: <img src=x onerror=document.title=1>")
        busy.curl("/%3Cimg%20src=x%20onerror=document.title=1%3E")
        browser.until("document.getElementById('latest').innerText.includes('onerror')")
        assert browser.ask("document.querySelectorAll('img').length") == 0
        assert browser.ask("document.title") == "corten gateway"
        assert set(browser.ask("performance.getEntriesByType('resource').map((one) => new URL(one.name).host)")) == {urlsplit(address).netloc}
        light = browser.ask("getComputedStyle(document.body).backgroundColor")
        browser.dark(True)
        browser.until(f"getComputedStyle(document.body).backgroundColor !== '{light}'")
        browser.picture(tmp_path / "page.png")
        assert os.path.getsize(tmp_path / "page.png") > 20_000
        assert not browser.errors
        busy.kill()
        browser.until("!document.getElementById('trouble').hidden")
        assert "does not answer" in browser.text("#trouble")
        busy.start()
        browser.until("document.getElementById('trouble').hidden")
        before = browser.ask("Number(document.body.dataset.shown)")
        busy.curl("/users/after")
        browser.until(f"Number(document.body.dataset.shown) > {before}")


@needs_browser
def test_no_other_page_reads_it_or_frames_it(world):
    with page(world) as address, Backend(lambda asked: (200, {"Content-Type": "text/html"}, b"<h1>another page</h1>")) as other:
        key, here = urlsplit(address).fragment, urlsplit(address).netloc
        with Browser() as browser:
            browser.open(f"http://{other.address}/")
            browser.until("document.body.innerText.includes('another page')")
            for script in (f"fetch('http://{here}/now')", f"fetch('http://{here}/now', {{headers: {{'X-Corten-Key': '{key}'}}}})",
                           f"fetch('http://{here}/', {{mode: 'no-cors'}}).then((one) => {{ if (one.type !== 'basic') throw one.type }})"):
                assert browser.ask(f"{script}.then(() => 'read', () => 'refused')") == "refused", script
            browser.ask(f"document.body.append(Object.assign(document.createElement('iframe'), {{src: 'http://{here}/'}}))")
            wait_until(lambda: browser.ask("1") and any("frame" in one.lower() or "403" in one for one in browser.errors), 60)
            assert browser.ask("frames[0].length === 0 && (() => { try { return frames[0].document.body.innerText } catch { return 'kept apart' } })()") == "kept apart"
