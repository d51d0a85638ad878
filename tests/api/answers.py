"""The shapes of an engine's answers: members and kinds of values, whatever the values are.

    python tests/api/answers.py unix:///run/docker.sock >tests/api/answers.json      (from a real dockerd, by hand)
"""

import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from daemon_process import _UnixConnection, call

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

    def headers(self, url):
        """Names in lower case, and values."""
        connection = _UnixConnection(self.path, 60)
        try:
            connection.request("GET", url)
            return [(name.lower(), value) for name, value in connection.getresponse().getheaders()]
        finally:
            connection.close()

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
    found.update(verbs(ask))
    found.update(system(ask))
    found["image"] = shape({**ask.json("/images/busybox/json"), "GraphDriver": {}, "RepoDigests": []})
    found["images"] = shape([{**row, "RepoDigests": []} for row in ask.json("/images/json")
                             if "busybox:latest" in (row["RepoTags"] or ())])
    found["history"] = shape(ask.json("/images/busybox/history"))
    found["network bridge"] = shape({**ask.json("/networks/bridge"), "Containers": {}, "Options": {}})
    return found


def verbs(ask):
    """What happens to one container, as events tell it; and the answers on the way."""
    found, since = {}, time.time()
    ref = ask.json("/containers/create?name=answers", "POST", {
        "Image": "busybox", "Cmd": ["sleep", "1000"], "Labels": {"answers": "1"}, "StopSignal": "KILL"})["Id"]
    try:
        assert ask("POST", f"/containers/{ref}/start").status == 204
        made = ask.json(f"/containers/{ref}/exec", "POST", {"Cmd": ["touch", "/made"], "AttachStdout": True})["Id"]
        ask("POST", f"/exec/{made}/start", {"Detach": False})
        deadline = time.monotonic() + SETTLE_S
        while ask.json(f"/exec/{made}/json")["Running"]:
            assert time.monotonic() < deadline
        found["exec ended"] = shape(ask.json(f"/exec/{made}/json"))
        found["changes"] = shape(sorted(ask.json(f"/containers/{ref}/changes"), key=lambda change: change["Path"]))
        for verb in ("pause", "unpause", "rename?name=answers2", "resize?h=10&w=10", "kill?signal=USR1", "restart?t=0", "stop?t=0"):
            ask("POST", f"/containers/{ref}/{verb}")
        for method, url in (("GET", "export"), ("GET", "archive?path=/etc/passwd"), ("HEAD", "archive?path=/etc/passwd"),
                            ("GET", "logs?stdout=1")):
            ask(method, f"/containers/{ref}/{url}")
        committed = ask.json(f"/commit?container={ref}&repo=answers&tag=1&comment=c&author=a", "POST", {"Cmd": ["x"]})
        found["commit"] = shape(committed)
        found["image committed"] = shape({**ask.json("/images/answers:1/json"), "GraphDriver": {}, "RepoDigests": []})
        ask("POST", "/images/answers:1/tag?repo=answers&tag=2")
        ask("GET", "/images/answers:1/get")
        ask("DELETE", "/images/answers:1")
        found["image deleted"] = shape(ask.json("/images/answers:2", "DELETE")[:1])
    finally:
        ask("DELETE", f"/containers/{ref}?force=1&v=1")
    found["events of verbs"] = events(ask, since, images="answers")
    for kind in ("containers", "networks", "volumes", "images"):
        nothing = "%7B%22label%22:%5B%22no.such.label%22%5D%7D"
        found[f"{kind} pruned"] = shape(ask.json(f"/{kind}/prune?filters={nothing}", "POST"))
    return found


def system(ask):
    """Answers about the engine as a whole."""
    info = ask.json("/info")
    for name in ("Plugins", "Runtimes", "RegistryConfig"):
        info[name] = {}
    for name in ("DriverStatus", "SecurityOptions", "Warnings", "DefaultAddressPools", "CDISpecDirs", "DiscoveredDevices"):
        info.pop(name, None)
    version = ask.json("/version")
    version["Components"] = [{**part, "Details": {}} for part in version["Components"][:1]]
    usage = ask.json("/system/df")
    return {
        "info": shape(info), "version": shape(version), "ping": sorted(
            name for name, _ in ask.headers("/_ping") if name not in ("date", "content-length", "connection")),
        "usage": {name: type(value).__name__ for name, value in usage.items()},
        "no such container": shape(ask("GET", "/containers/nothing/json").json),
    }


def events(ask, since, images=""):
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
        if event["Type"] == "daemon" or (event["Type"] == "image" and not (
                images and attributes.get("name", "").startswith(images))):
            continue
        found[f"{event['Type']} {action}"] = {"members": sorted(event), "attributes": sorted(attributes)}
    return dict(sorted(found.items()))


if __name__ == "__main__":
    json.dump(collect(Asker(sys.argv[1].removeprefix("unix://"))), sys.stdout, indent=1, sort_keys=True)
    print()
