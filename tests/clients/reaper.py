"""A program for the image of the reaper that testcontainers starts: what Ryuk does, as far as its clients notice.

A client connects to port 8080 and sends `label=KEY=VALUE` lines, each answered by ACK. When none has been connected for
RYUK_RECONNECTION_TIMEOUT, all containers, networks, volumes and images with such labels are removed, and it ends.
"""

PROGRAM = rb'''
import http.client, json, os, re, socket, sys, threading, time, urllib.parse

labels, lock, clients, quiet_since = set(), threading.Lock(), 0, time.monotonic()
UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
parts = re.findall("([0-9.]+)(ms|s|m|h)", os.environ.get("RYUK_RECONNECTION_TIMEOUT", "10s"))
patience_s = sum(float(number) * UNITS[unit] for number, unit in parts)


class Engine(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/var/run/docker.sock")


def ask(method, path):
    engine = Engine("localhost")
    engine.request(method, path)
    answer = engine.getresponse().read()
    engine.close()
    return json.loads(answer or b"null")


def serve(client):
    global clients, quiet_since
    try:
        for line in client.makefile("r"):
            labels.add(line.strip().removeprefix("label="))
            client.sendall(b"ACK\n")
    except OSError:  # gone without reading its answer
        pass
    client.close()
    with lock:
        clients, quiet_since = clients - 1, time.monotonic()


def remove(label):
    chosen = urllib.parse.quote(json.dumps({"label": [label]}))
    for row in ask("GET", f"/containers/json?all=1&filters={chosen}"):
        ask("DELETE", f"/containers/{row['Id']}?force=1&v=1")
    for kind in ("networks", "volumes", "images"):
        ask("POST", f"/{kind}/prune?filters={chosen}")


listener = socket.create_server(("0.0.0.0", 8080))
listener.settimeout(0.05)
print("level=INFO msg=Started!", "Started!", flush=True)
seen = False
while clients or not seen and time.monotonic() < quiet_since + 60 or seen and time.monotonic() < quiet_since + patience_s:
    try:
        client, _ = listener.accept()
    except TimeoutError:
        continue
    client.settimeout(None)
    with lock:
        clients, seen = clients + 1, True
    threading.Thread(target=serve, args=(client,), daemon=True).start()
for label in labels:
    remove(label)
'''
