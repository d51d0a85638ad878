"""gRPC through the gateway by grpcio, all four kinds of call, trailers and errors, plain and by TLS."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

TALK = [sys.executable, str(Path(__file__).parents[1] / "grpc_talk.py")]


@contextlib.contextmanager
def service():
    """Its port."""
    with subprocess.Popen([*TALK, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()


def ask(*words):
    done = subprocess.run([*TALK, "ask", *words], capture_output=True, text=True, timeout=280, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_every_kind_of_call(world, tmp_path):
    with service() as port:
        world.applied({"kind": "Api", "name": "orders", "hosts": ["shop.example", "127.0.0.1"], "tls": {}, "routes": [{"path": "/shop.Orders"}],
                       "backends": [{"address": f"127.0.0.1:{port}", "protocol": "http2"}]})
        told = ask(f"127.0.0.1:{world.port}")
        assert told == {"one": "placed tea", "stream": ["0", "1", "2", "3", "4"], "sum": "6", "chat": ["ba", "dc"],
                        "Fail": ["FAILED_PRECONDITION", "none left", "sold-out"], "Nothing": ["UNIMPLEMENTED", "Method not found!", None]}
        (tmp_path / "ca.pem").write_text(world.cli("gateway", "authority").stdout)
        assert ask(f"127.0.0.1:{world.tls_port}", str(tmp_path / "ca.pem"), "shop.example") == told
        world.applied({"kind": "Api", "name": "orders", "hosts": ["shop.example", "127.0.0.1"], "tls": {}, "routes": [{"path": "/shop.Orders"}],
                       "backends": [{"address": f"127.0.0.1:{port}", "protocol": "http2"}],
                       "policy": {"apiKeys": {"keys": {"a": "key-of-nobody"}}}})
        refused = subprocess.run([*TALK, "ask", f"127.0.0.1:{world.port}"], capture_output=True, text=True, timeout=280)
        assert refused.returncode == 1 and "UNAUTHENTICATED" in refused.stderr, refused.stderr
