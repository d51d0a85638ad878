"""The shapes of an engine's answers: members and kinds of values, whatever the values are.

    python tests/api/answers.py unix:///run/docker.sock >tests/api/answers.json      (from a real dockerd, by hand)
"""

import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from daemon_process import call

SETTLE_S = 60


def shape(value):
    """A value with everything that differs between two machines taken out."""
    if isinstance(value, dict) and "Mounts" in value and isinstance(value["Mounts"], list):
        value = {**value, "Mounts": sorted(value["Mounts"], key=lambda mount: mount.get("Destination", ""))}
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in sorted(value.items()) if key != "ExecIDs"}  # a probe may run
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return None if value is None else type(value).__name__


class Asker:
    """Asks an engine over its socket; containers are made of the image busybox."""

    def __init__(self, path):
        self.path = path

    def __call__(self, method, url, body=None):
        return call(self.path, method, url, body, 60)

    def json(self, url, method="GET", body=None):
        answer = self(method, url, body)
        assert answer.status < 300, (url, answer.body)
        return answer.json

    def lines(self, url):
        return [json.loads(line) for line in self("GET", url).body.splitlines()]


BODY = {
    "Image": "busybox", "Cmd": ["sh", "-c", "echo out; sleep 1000"], "Env": ["A=b"], "Labels": {"answers": "1"},
    "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/anonymous": {}},
    "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1000000000},
    "HostConfig": {"Binds": ["answers-volume:/x", "/tmp:/y:ro"], "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1"}]},
                   "Memory": 64 << 20, "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}},
}


def collect(ask):
    """name -> shape, of what clients read."""
    found = {}
    since = time.time() - 1
    network = ask.json("/networks/create", "POST", {"Name": "answers-net", "Labels": {"a": "b"}})
    ref = ask.json("/containers/create?name=answers", "POST", BODY)["Id"]
    try:
        found["container created"] = shape(ask.json(f"/containers/{ref}/json"))
        found["list created"] = shape(ask.json('/containers/json?all=1&filters={"name":["answers"]}'.replace('"', "%22")))
        assert ask("POST", f"/containers/{ref}/start").status == 204
        ask("POST", "/networks/answers-net/connect", {"Container": ref})
        deadline = time.monotonic() + SETTLE_S
        while not (ask.json(f"/containers/{ref}/json")["State"].get("Health") or {}).get("Log"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        found["container running"] = shape(ask.json(f"/containers/{ref}/json?size=1"))
        found["list running"] = shape(ask.json("/containers/json?size=1&filters=%7B%22name%22:%5B%22answers%22%5D%7D"))
        made = ask.json(f"/containers/{ref}/exec", "POST", {"Cmd": ["true"], "AttachStdout": True})["Id"]
        found["exec created"] = shape(ask.json(f"/exec/{made}/json"))
        ask("POST", f"/exec/{made}/start", {"Detach": True})
        found["network with a container"] = shape({
            **ask.json("/networks/answers-net"), "Containers": list(ask.json("/networks/answers-net")["Containers"].values())})
        stats = ask.json(f"/containers/{ref}/stats?stream=0")
        found["stats"] = {key: shape(value) for key, value in stats.items() if key not in (
            "blkio_stats", "memory_stats", "networks", "pids_stats", "storage_stats")}
        found["stats"]["networks"] = shape(list(stats["networks"].values()))
        found["update"] = shape(ask.json(f"/containers/{ref}/update", "POST", {"Memory": 128 << 20, "MemorySwap": -1}))
        ask("POST", f"/containers/{ref}/stop?t=0")
        found["container exited"] = shape(ask.json(f"/containers/{ref}/json"))
        found["wait"] = shape(ask.json(f"/containers/{ref}/wait", "POST"))
    finally:
        ask("DELETE", f"/containers/{ref}?force=1&v=1")
        ask("DELETE", f"/networks/{network['Id']}")
    found["volume"] = shape(ask.json("/volumes/answers-volume"))
    found["volumes"] = shape(ask.json("/volumes?filters=%7B%22name%22:%5B%22answers-volume%22%5D%7D"))
    ask("DELETE", "/volumes/answers-volume")
    found["events"] = events(ask, since)
    found["image"] = shape({**ask.json("/images/busybox/json"), "GraphDriver": {}, "RepoDigests": []})
    found["images"] = shape([{**row, "RepoDigests": []} for row in ask.json("/images/json")
                             if "busybox:latest" in (row["RepoTags"] or ())])
    found["history"] = shape(ask.json("/images/busybox/history"))
    found["network bridge"] = shape({**ask.json("/networks/bridge"), "Containers": {}, "Options": {}})
    return found


def events(ask, since):
    """Every kind of event seen and the names of its attributes."""
    found = {}
    for event in ask.lines(f"/events?since={since:.3f}&until={time.time() + 0.001:.3f}"):
        action = event["Action"].partition(":")[0]
        attributes = event["Actor"]["Attributes"]
        if event["Type"] == "container" and attributes.get("answers") != "1":
            continue
        if event["Type"] == "network" and attributes.get("name") not in ("bridge", "answers-net"):
            continue
        if event["Type"] == "volume" and len(event["Actor"]["ID"]) != 64 and event["Actor"]["ID"] != "answers-volume":
            continue
        if event["Type"] in ("image", "daemon"):
            continue
        found[f"{event['Type']} {action}"] = {"members": sorted(event), "attributes": sorted(attributes)}
    return dict(sorted(found.items()))


if __name__ == "__main__":
    json.dump(collect(Asker(sys.argv[1].removeprefix("unix://"))), sys.stdout, indent=1, sort_keys=True)
    print()
