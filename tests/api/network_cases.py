"""What is asked of the network API, call by call; network_cases.json holds what dockerd 28.5 answers.

    DOCKERD_SOCKET=/path/docker.sock python tests/api/network_cases.py      # records the answers anew

`{p}` begins every name, `{s}` are the first three numbers of a subnet of the case's own.
"""

import json
import os
import re
import sys
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from daemon_process import call
from images import busybox_archive

EXPECTED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "network_cases.json")


def ipam(*config, **more):
    return {"IPAM": {"Config": list(config), **more}}


def create(name="{p}n", **body):
    return "POST", "/networks/create", {"Name": name, **body}


def container(name, network="", endpoint=None, host=None, **config):
    body = {"Image": "{p}img", "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": network, **(host or {})}, **config}
    if endpoint is not None:
        body["NetworkingConfig"] = {"EndpointsConfig": endpoint}
    return "POST", f"/containers/create?name={{p}}{name}", body


def start(name):
    return "POST", f"/containers/{{p}}{name}/start", None


def stop(name):
    return "POST", f"/containers/{{p}}{name}/stop?t=0", None


def settings(name):
    return "GET", f"/containers/{{p}}{name}/json", None


def inspect(name="{p}n", query=""):
    return "GET", f"/networks/{name}{query}", None


def listed(**filters):
    return "GET", "/networks?filters=" + urllib.parse.quote(json.dumps(filters), safe="{}"), None


def connect(name, network="{p}n", **endpoint):
    return "POST", f"/networks/{network}/connect", {"Container": "{p}" + name, "EndpointConfig": endpoint or None}


def disconnect(name, network="{p}n", force=False):
    return "POST", f"/networks/{network}/disconnect", {"Container": "{p}" + name, "Force": force}


def remove(name="{p}n"):
    return "DELETE", f"/networks/{name}", None


SUBNET = {"Subnet": "{s}.0/24", "Gateway": "{s}.1"}
CASES = {
    "a plain network": [create(), inspect(), inspect(query="?verbose=true"), inspect(query="?scope=local"),
                        inspect(query="?scope=swarm"), remove(), inspect(), remove()],
    "all that a bridge may be given": [
        create(Driver="bridge", Attachable=True, Labels={"a": "1", "b": ""}, Options={
            "com.docker.network.bridge.enable_icc": "false", "com.docker.network.driver.mtu": "1400"},
            **ipam({"Subnet": "{s}.0/24", "IPRange": "{s}.128/25", "Gateway": "{s}.7",
                    "AuxiliaryAddresses": {"one": "{s}.130"}}, Driver="default", Options={})),
        inspect(), container("c", "{p}n"), start("c"), settings("c"), inspect()],
    "an internal network": [create(Internal=True, **ipam(SUBNET)), container("c", "{p}n"), start("c"), settings("c"), inspect()],
    "two of a name": [create(), create(), create(CheckDuplicate=True)],
    "names that cannot be": [create(""), create(" "), create("{p}/b"), create("bridge"), create("host"), create("none"),
                             create("default"), create("{p}.-_N9"), remove("{p}.-_N9")],
    "drivers that are none": [create(Driver="host"), create(Driver="null")],
    "scopes and kinds of swarms": [create(Scope="swarm"), create(Ingress=True), create("{p}m", Scope="local"), inspect("{p}m")],
    "overlapping subnets": [create(**ipam(SUBNET)), create("{p}m", **ipam({"Subnet": "{s}.128/25"}))],
    "pools that cannot be": [
        create(**ipam({"Subnet": "{s}.1/24"})), create(**ipam({"Subnet": "{s}.0"})), create(**ipam({"Subnet": "nonsense"})),
        create(**ipam({"Gateway": "{s}.1"})), create(**ipam({"IPRange": "{s}.0/25"})),
        create(**ipam({"Subnet": "{s}.0/24", "Gateway": "10.1.1.1"})),
        create(**ipam({"Subnet": "{s}.0/24", "Gateway": "nonsense"})),
        create(**ipam({"Subnet": "{s}.0/24", "IPRange": "10.1.0.0/24"})),
        create(**ipam({"Subnet": "{s}.0/24", "IPRange": "nonsense"})),
        create(**ipam({"Subnet": "{s}.0/24", "IPRange": "{s}.1/25"})),
        create(**ipam({"Subnet": "{s}.0/24", "AuxiliaryAddresses": {"x": "10.1.1.1"}})),
        create(**ipam({"Subnet": "{s}.0/24", "AuxiliaryAddresses": {"x": "nonsense"}})),
        create(**ipam({"Subnet": "{s}.0/25"}, {"Subnet": "{s}.0/25"})),
        create(**ipam({"Subnet": "{s}.0/24"}, Driver="nonsense")),
    ],
    "two subnets": [create(**ipam({"Subnet": "{s}.0/25"}, {"Subnet": "{s}.128/25"}))],
    "an IPv6 subnet where IPv6 is off": [create(**ipam({"Subnet": "fd00:77::/64"})), inspect()],
    "neither IPv4 nor IPv6": [create(EnableIPv4=False), create(EnableIPv4=False, EnableIPv6=False)],
    "options that cannot be": [
        create(Options={"com.docker.network.driver.mtu": "x"}), create(Options={"com.docker.network.driver.mtu": "-1"}),
        create(Options={"com.docker.network.bridge.enable_icc": "maybe"}),
        create(Options={"com.docker.network.bridge.host_binding_ipv4": "nonsense"}),
    ],
    "a configuration and who uses it": [
        create("{p}conf", ConfigOnly=True, Internal=True), create("{p}conf", ConfigOnly=True, Attachable=True),
        create("{p}conf", ConfigOnly=True, Labels={"of": "conf"}, Options={"com.docker.network.driver.mtu": "1400"}, **ipam(SUBNET)),
        inspect("{p}conf"),
        container("c", "{p}conf"), start("c"),
        create(ConfigFrom={"Network": "{p}conf"}, Labels={"of": "n"}), create(ConfigFrom={"Network": "{p}conf"}, Internal=True), inspect(),
        remove("{p}conf"), connect("c", "{p}conf"),
        container("d", "{p}n"), start("d"), settings("d"), listed(name=["{p}"]),
        create("{p}x", ConfigFrom={"Network": "{p}nowhere"}), create("{p}x", ConfigFrom={"Network": "{p}n"}),
        create("{p}x", ConfigOnly=True, ConfigFrom={"Network": "{p}conf"}),
        create("{p}x", ConfigFrom={"Network": "{p}conf"}, **ipam(SUBNET)),
        create("{p}x", ConfigFrom={"Network": "{p}conf"}, Options={"com.docker.network.driver.mtu": "1400"}),
        create("{p}x", ConfigOnly=True, Driver="bridge"),
        ("POST", "/containers/{p}d/kill", None), ("DELETE", "/containers/{p}d?force=1", None), remove(), remove("{p}conf"),
    ],
    "lists": [
        create(Labels={"l": "1"}), create("{p}m", Labels={"l": "2"}), listed(name=["{p}"]), listed(label=["l=1"]),
        listed(label=["l"]), listed(label=["l", "l=2"]), listed(name=["{p}m"], label=["l=1"]), listed(type=["custom"], name=["{p}"]),
        listed(type=["builtin"]), listed(type=["nonsense"]), listed(driver=["bridge"], name=["{p}"]), listed(driver=["null"]),
        listed(scope=["local"], name=["{p}"]), listed(scope=["swarm"]), listed(dangling=["true"], name=["{p}"]),
        listed(dangling=["false"], name=["{p}"]), listed(dangling=["nonsense"]), listed(nonsense=["x"]),
        listed(dangling=["true", "false"]), container("c", "{p}n"), listed(dangling=["true"], name=["{p}"]), start("c"), listed(id=["nonsense"]),
    ],
    "connect and disconnect of one that runs": [
        create(**ipam(SUBNET)), create("{p}m"), container("c", "{p}m"), start("c"),
        connect("c", IPAMConfig={"IPv4Address": "{s}.50"}, Aliases=["x", "y"], GwPriority=5), settings("c"), inspect(),
        connect("c"), disconnect("c"), settings("c"), disconnect("c"), disconnect("c", force=True),
        connect("c", IPAMConfig={"IPv4Address": "10.9.9.9"}),
        connect("c", "{p}m"), disconnect("c", "{p}m"), settings("c"),
        connect("c", "{p}m", IPAMConfig={"IPv4Address": "{s}.50"}), connect("c", MacAddress="02:42:ac:11:00:99"), settings("c"),
        disconnect("c"), connect("c", IPAMConfig={"IPv4Address": "{s}.1"}),
    ],
    "connect and disconnect of one that does not run": [
        create(**ipam(SUBNET)), create("{p}m"), container("c", "{p}m"), connect("c", IPAMConfig={"IPv4Address": "{s}.50"}, Aliases=["x"]),
        settings("c"), inspect(), connect("c", Aliases=["z"]), settings("c"), disconnect("c", "{p}m"), settings("c"), disconnect("c", "{p}m"),
        start("c"), settings("c"), stop("c"), settings("c"), disconnect("c"), settings("c"), start("c"), settings("c"),
    ],
    "what cannot be connected": [
        create(), container("c", "{p}n"), ("POST", "/networks/{p}n/connect", {"Container": ""}),
        ("POST", "/networks/{p}n/connect", {}), connect("nowhere"), connect("c", "{p}nowhere"), connect("c", "host"), connect("c", "none"),
        disconnect("nowhere"), disconnect("c", "{p}nowhere"), disconnect("nowhere", force=True),
        container("h", "host"), start("h"), connect("h"), disconnect("h", "host"), settings("h"), inspect("host"),
        container("z", "none"), connect("z"), settings("z"), container("y", "none"), start("y"), connect("y"), settings("y"),
        disconnect("y", "none"), settings("y"),
        container("j", "container:{p}h"), start("j"), connect("j"), disconnect("j"),
    ],
    "the network of another": [
        container("a"), start("a"), container("j", "container:{p}a"), start("j"), settings("j"),
        container("o", "container:{p}nowhere"), start("o"), container("l", "container:"), stop("a"), container("q", "container:{p}a"), start("q"),
        container("k", "container:{p}a", host={"PortBindings": {"80/tcp": [{}]}}),
        container("k", "container:{p}a", ExposedPorts={"80/tcp": {}}),
        container("k", "container:{p}a", host={"PublishAllPorts": True}),
        container("k", "container:{p}a", host={"DnsSearch": ["x"]}),
        container("k", "container:{p}a", host={"Dns": ["1.1.1.1"]}),
        container("k", "container:{p}a", host={"ExtraHosts": ["a:1.2.3.4"]}),
        container("k", "container:{p}a", host={"Links": ["{p}a:a"]}),
        container("k", "container:{p}a", Hostname="x"),
        container("k", "host", host={"Links": ["{p}a:a"]}), container("k", "host", host={"PortBindings": {"80/tcp": [{}]}}),
    ],
    "a start without its network": [create(), container("c", "{p}n"), remove(), start("c"), settings("c")],
    "removal in use": [create(), container("c", "{p}n"), start("c"), remove(), stop("c"), remove(), start("c")],
    "removal of what cannot be": [remove("bridge"), remove("host"), remove("none"), remove("{p}nowhere")],
    "addresses that cannot be had": [
        create(**ipam(SUBNET)), create("{p}m"),
        container("c", "{p}n", {"{p}n": {"IPAMConfig": {"IPv4Address": "{s}.50"}}}), start("c"),
        container("d", "{p}n", {"{p}n": {"IPAMConfig": {"IPv4Address": "{s}.50"}}}), start("d"),
        container("e", "{p}n", {"{p}n": {"IPAMConfig": {"IPv4Address": "nonsense"}}}),
        container("f", "{p}m", {"{p}m": {"IPAMConfig": {"IPv4Address": "{s}.50"}}}), start("f"),
        container("g", "bridge", {"bridge": {"IPAMConfig": {"IPv4Address": "{s}.50"}}}), start("g"),
        container("i", "{p}n", {"{p}n": {"IPAMConfig": {"IPv4Address": "{s}.50", "IPv6Address": "x"}}}),
        container("k", "{p}n", {"{p}n": {"IPAMConfig": {"LinkLocalIPs": ["x"]}}}),
        container("l", "{p}n", {"{p}n": {"MacAddress": "nonsense"}}), container("m", "{p}n", {"{p}n": {"MacAddress": "02:42:00:00:00:07"}}),
        start("m"), settings("m"), container("r", "{p}n", {"{p}n": {"IPAMConfig": {"IPv4Address": "{s}.1"}}}), start("r"),
        container("t", "{p}n", {"{p}n": {"IPAMConfig": {"IPv4Address": "10.9.9.9"}}}), start("t"),
    ],
    "several networks at once": [
        create(**ipam(SUBNET)), create("{p}m"), container("c", "{p}n", {"{p}n": {"Aliases": ["x"], "GwPriority": 1}, "{p}m": {}}),
        settings("c"), start("c"), settings("c"), container("d", "{p}n", {"{p}m": {}}), settings("d"),
        container("e", "host", {"host": {}, "{p}m": {}}),
    ],
    "the default network": [container("c", "default"), settings("c"), start("c"), settings("c"), container("d", "bridge", {"bridge": {"Aliases": ["x"]}}),
                            start("d"), container("e", "", {"bridge": {"MacAddress": "02:42:00:00:00:09"}}), start("e")],
    "names of containers": [
        create(), container("c", "{p}n", {"{p}n": {"Aliases": ["x", "x", "{p}c"]}}, Hostname="hh", Domainname="example"), start("c"), settings("c"),
        ("POST", "/containers/{p}c/rename?name={p}d", None), settings("d"), stop("d"), settings("d"),
    ],
    "links": [
        container("a"), container("b", host={"Links": ["{p}a:db", "{p}a"]}), settings("b"), start("b"), start("a"), start("b"),
        container("e", host={"Links": ["{p}nowhere:x"]}), container("e", host={"Links": ["a:b:c"]}), container("e", host={"Links": [""]}),
        create(), container("g", "{p}n", {"{p}n": {"Links": ["{p}a:db"]}}, host={"Links": ["{p}a:db"]}), settings("g"), start("g"),
        container("f", "{p}n"), container("i", host={"Links": ["{p}f:x"]}), start("f"), start("i"),
    ],
    "prune": [
        create(Labels={"keep": ""}), create("{p}m"), container("c", "{p}m"),
        ("POST", "/networks/prune?filters={\"nonsense\":[\"x\"]}", None), ("POST", "/networks/prune?filters={\"until\":[\"nonsense\"]}", None),
        ("POST", "/networks/prune?filters={\"label\":[\"{p}none\"]}", None),
        ("POST", "/networks/prune?filters={\"label!\":[\"keep\"],\"label\":[\"{p}\"]}", None),
    ],
}
_KEPT = ("NetworkSettings", "HostConfig", "Config", "State")


class Side:
    """One engine, asked."""

    def __init__(self, socket, prefix, block, folder):
        self.socket, self.prefix, self.block = socket, prefix, block
        archive = f"{folder}/{prefix}.tar"
        busybox_archive(archive, [f"{prefix}img:latest"])
        with open(archive, "rb") as file:
            answer = call(socket, "POST", "/images/load", file.read(), headers={"Content-Type": "application/x-tar"})
        assert answer.status == 200, answer.body

    def _worded(self, value):
        if isinstance(value, str):
            return value.replace("{p}", self.prefix).replace("{s}", self.subnet)
        if isinstance(value, dict):
            return {self._worded(key): self._worded(one) for key, one in value.items()}
        return [self._worded(one) for one in value] if isinstance(value, list) else value

    def run(self, name):
        """Each answer to a case as [what was asked, status, body]; whatever was made is removed."""
        self.subnet = f"{self.block}.{list(CASES).index(name)}"
        steps = CASES[name]
        try:
            return [self._step(*step) for step in steps]
        finally:
            self.clear()

    def _step(self, method, url, body):
        url = self._worded(url).replace('"', "%22").replace(" ", "%20")
        answer = call(self.socket, method, url, self._worded(body))
        try:
            found = json.loads(answer.body) if answer.body else None
        except ValueError:
            found = answer.body.decode()
        if url.startswith("/containers/") and url.endswith("/json") and answer.status == 200:
            found = {"NetworkSettings": found["NetworkSettings"], "Links": found["HostConfig"]["Links"],
                     "NetworkMode": found["HostConfig"]["NetworkMode"], "Error": found["State"]["Error"]}
        if url.startswith("/networks?") and isinstance(found, list):
            found = sorted(one["Name"] for one in found if one["Name"].startswith(self.prefix) or one["Name"] in ("bridge", "host", "none"))
        return [f"{method} {url.split('?')[0]} {json.dumps(body) if body else ''}".strip(), answer.status, found]

    def clear(self):
        for row in call(self.socket, "GET", "/containers/json?all=1").json:
            if any(name.startswith(f"/{self.prefix}") for name in row["Names"]):
                call(self.socket, "DELETE", f"/containers/{row['Id']}?force=1&v=1")
        rows = [row for row in call(self.socket, "GET", "/networks").json if row["Name"].startswith(self.prefix)]
        for row in sorted(rows, key=lambda row: row["ConfigOnly"]):
            call(self.socket, "DELETE", f"/networks/{row['Id']}")

    def plain(self, answers):
        """The answers without what differs from run to run."""
        text = json.dumps(answers).replace(self.prefix, "{p}").replace(self.subnet, "{s}")
        for pattern, word in (
            (r"\b[0-9a-f]{64}\b", "<id>"), (r"\b[0-9a-f]{12}\b", "<short>"), (r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "<time>"),
            (r"\b02:42(:[0-9a-f]{2}){4}\b|\b[0-9a-f]{2}(:[0-9a-f]{2}){5}\b", "<mac>"),
            (r"\b(172\.\d+|192\.168|10\.2\d\d)\.\d+\.\d+(/\d+)?", "<address>"), (r"\"[^\"]*/netns/[^\"]*\"", '"<key>"'),
        ):
            text = re.sub(pattern, word, text)
        return json.loads(re.sub(r'"IPPrefixLen": (?!0\b)\d+', '"IPPrefixLen": 1', text))


def record():
    import tempfile
    with tempfile.TemporaryDirectory() as folder:
        side = Side(os.environ["DOCKERD_SOCKET"], f"nc{os.getpid()}", f"10.{os.getpid() % 50 + 100}", folder)
        found = {name: side.plain(side.run(name)) for name in CASES if len(sys.argv) < 2 or sys.argv[1] in name}
    if len(sys.argv) > 1:
        print(json.dumps(found, indent=1))
        return
    with open(EXPECTED, "w") as file:
        lines = [f" {json.dumps(name)}: [\n" + ",\n".join("  " + json.dumps(step) for step in steps) + "\n ]" for name, steps in found.items()]
        file.write("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    record()
