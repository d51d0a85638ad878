"""Looking at containers and the engine: ps, inspect, logs, top, stats, events, version, info."""

import json
import re
import time

import pytest
from daemon_process import until

ZONE = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z "


@pytest.fixture
def three(client):
    """web runs, done has ended with 3, idle was only created."""
    client("run", "-d", "--name", "web", "--label", "tier=front", "-e", "A=1", "busybox", "sleep", "100")
    client("run", "--name", "done", "busybox", "sh", "-c", "exit 3", code=3)
    client("create", "--name", "idle", "--label", "tier=back", "busybox", "true")
    return client


def test_ps(three):
    client = three
    header, row = client("ps").splitlines()
    assert header.split() == ["CONTAINER", "ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    assert re.fullmatch(r'[0-9a-f]{12}   busybox   "sleep 100"   .* ago\s+Up .*   web', row)
    assert client("ps", "-a", "--format", "{{.Names}}").split() == ["idle", "done", "web"]
    assert re.fullmatch("[0-9a-f]{12}", client("ps", "-q"))
    assert len(client("ps", "-aq").split()) == 3 and len(client("ps", "-q", "--no-trunc")) == 64
    assert client("ps", "-l", "--format", "{{.Names}}") == "idle"
    assert client("ps", "-n", "2", "--format", "{{.Names}}").split() == ["idle", "done"]
    assert client("ps", "-a", "--format", "table {{.Names}}\t{{.State}}").splitlines() == [
        "NAMES     STATE", "idle      created", "done      exited", "web       running"]
    assert json.loads(client("ps", "--format", "json"))["Names"] == "web"
    assert "virtual" in client("ps", "-s")


@pytest.mark.parametrize("filters, names", [
    (["status=exited"], ["done"]), (["exited=3"], ["done"]), (["name=we"], ["web"]), (["label=tier"], ["idle", "web"]),
    (["label=tier=back"], ["idle"]), (["ancestor=busybox"], ["idle", "done", "web"]), (["before=done"], ["web"]),
    (["since=done"], ["idle"]), (["status=created", "status=running"], ["idle", "web"]), (["name=zzz"], []),
    (["network=bridge", "status=running"], ["web"]),
])
def test_ps_filter(three, filters, names):
    flags = [word for text in filters for word in ("--filter", text)]
    assert three("ps", "-a", *flags, "--format", "{{.Names}}").split() == names


def test_ps_refuses_what_is_no_filter(client):
    client("ps", "-f", "color=red", fails="(?i)invalid filter 'color'")
    client("ps", "--format", "{{.Nope}}", fails="can't evaluate field Nope")


@pytest.mark.parametrize("template, pattern", [
    ("{{.State.Status}}:{{.State.Running}}:{{.State.ExitCode}}", "running:true:0"),
    ("{{ .State.Pid }}", r"[1-9]\d*"),
    ("{{range .Config.Env}}{{println .}}{{end}}", r"(?s)A=1\n.*PATH=.*|PATH=.*\nA=1\n*"),
    ('{{index .Config.Labels "tier"}}', "front"),
    ("{{range $name, $net := .NetworkSettings.Networks}}{{$name}}={{$net.IPAddress}}{{end}}", r"bridge=\d+\.\d+\.\d+\.\d+"),
    ("{{json .Config.Cmd}}", r'\["sleep","100"\]'),
    ("{{join .Config.Cmd \"+\"}} {{upper .Name}} {{len .Mounts}}", r"sleep\+100 /WEB 0"),
    ("{{if eq .State.Status \"running\"}}yes{{else}}no{{end}}", "yes"),
    ("{{with .Config}}{{.Image | printf \"%q\"}}{{end}}", '"busybox"'),
    ("{{if .State.Health}}sick{{else}}none{{end}}", "none"),
    ("{{.HostConfig.NetworkMode}} {{.Driver}} {{.Platform}}", r"(bridge|default) overlay\S* linux"),
])
def test_inspect_format(three, template, pattern):
    found = three("inspect", "--format", template, "web")
    assert re.fullmatch(pattern, found), found


def test_inspect(three):
    found = json.loads(three("inspect", "web", "done"))
    assert [one["Name"] for one in found] == ["/web", "/done"] and found[1]["State"]["ExitCode"] == 3
    three("inspect", "-f", "{{.Nope}}", "web", fails='map has no entry for key "Nope"')
    three("inspect", "-f", "{{.Name", "web", code=64, fails="template parsing error: template: :1: unclosed action")


def test_logs(client, tmp_path):
    script = "for i in 1 2 3 4; do { [ $i = 2 ] && echo $i >&2; } || echo $i; while [ ! -e /go/$i ]; do sleep 0.02; done; done"
    client("run", "-d", "--name", "talk", "-v", f"{tmp_path}:/go", "busybox", "sh", "-c", script)
    for line in "1234":  # each has its own time
        client.engine.said("talk", f"{line}\n")
        time.sleep(0.01 if line != "3" else 1.2)
        (tmp_path / line).touch()
    client("wait", "talk")
    done = client.run("logs", "talk")
    assert (done.stdout, done.stderr) == ("1\n3\n4\n", "2\n")
    assert client("logs", "--tail", "1", "talk") == "4"
    assert client("logs", "-n", "0", "talk") == ""
    stamped = client("logs", "-t", "talk")
    assert re.fullmatch(f"({ZONE}\\d\n?){{3}}", stamped)
    middle = stamped.splitlines()[2].split()[0]
    assert client("logs", "--since", middle, "talk") == "4"
    assert client("logs", "--until", stamped.split()[0], "talk") == "1"
    assert client("logs", "--since", "1h", "talk") == "1\n3\n4"
    assert client("logs", "--since", "2040-01-01T00:00:00Z", "talk") == ""


def test_logs_follow(client):
    client("run", "-d", "-i", "--name", "slow", "busybox", "sh", "-c", "echo 1; read go; for i in 2 3; do echo $i; sleep 0.3; done")
    client.engine.said("slow", "1\n")
    following = client.start("logs", "-f", "--tail", "1", "slow")
    assert following.stdout.readline() == "1\n"
    client("attach", "slow", stdin="go\n")
    assert following.communicate(timeout=90)[0].splitlines() == ["2", "3"] and following.returncode == 0


def test_many_lines_are_all_there(client):
    client("run", "--name", "many", "busybox", "seq", "20000", timeout=30)
    assert client("logs", "many").split() == [str(i) for i in range(1, 20001)]
    assert client("logs", "--tail", "3", "many").split() == ["19998", "19999", "20000"]


def test_top(three):
    header, *rows = three("top", "web").splitlines()
    assert header.split()[:3] == ["UID", "PID", "PPID"] and [row.split()[1] for row in rows] == [str(three.pid("web"))]
    assert rows[0].endswith("sleep 100")
    found = three("top", "web", "-o", "pid,comm").splitlines()
    assert found[0].split() == ["PID", "COMMAND"] and found[1].split() == [str(three.pid("web")), "sleep"]
    three("top", "done", fails="is not running")


def test_stats(client):
    client("run", "-d", "--name", "web", "--memory", "64m", "busybox", "sleep", "100")
    header, row = client("stats", "--no-stream").splitlines()
    assert header.split()[:4] == ["CONTAINER", "ID", "NAME", "CPU"]
    assert re.match(r"[0-9a-f]{12}\s+web\s+\d+\.\d\d%\s+[\d.]+[KM]iB / 64MiB\s+\d+\.\d\d%\s+.*B / .*B\s+.*B / .*B\s+1$", row.strip())
    assert client("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", "web") == "web 1"
    sample = json.loads(client("stats", "--no-stream", "--format", "json", "web"))
    assert sample["Name"] == "web" and sample["MemUsage"].endswith(" / 64MiB")


def test_events(client):
    begin = time.time()
    watching = client.start("events", "--filter", "container=seen", "--format", "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}")
    until(lambda: client.engine.api("GET", "/info").json["NEventsListener"] == 1)
    client("run", "--rm", "--name", "seen", "busybox", "true")
    wanted = ["create", "attach", "start", "die", "destroy"]
    lines = [watching.stdout.readline() for _ in wanted]
    watching.terminate()
    watching.communicate()
    assert sorted(lines) == sorted(f"container {action} seen\n" for action in wanted)
    past = client("events", "--since", f"{begin:.3f}", "--until", f"{time.time():.3f}", "-f", "type=container", "-f", "event=die",
                  "--format", "{{.Action}} {{.Actor.Attributes.exitCode}}")
    assert past == "die 0"
    volume = client("volume", "create")
    client("volume", "rm", volume)
    seen = client("events", "--since", f"{begin:.3f}", "--until", f"{time.time():.3f}", "--filter", f"volume={volume}")
    assert re.fullmatch(rf"\S+ volume create {volume} \(driver=local\)\n\S+ volume destroy {volume} \(driver=local\)", seen)


def test_version(client):
    found = json.loads(client("version", "--format", "json"))
    assert found["Server"]["Os"] == "linux" and tuple(map(int, found["Server"]["ApiVersion"].split("."))) >= (1, 51)
    assert found["Server"]["MinAPIVersion"] == "1.24"
    assert "Server:" in client("version") and client("version", "-f", "{{.Server.Version}}")


def test_info(three):
    found = json.loads(three("info", "--format", "{{json .}}"))
    assert (found["Containers"], found["ContainersRunning"], found["ContainersStopped"]) == (3, 1, 2)
    assert found["OSType"] == "linux" and found["Swarm"]["LocalNodeState"] == "inactive" and found["Images"] >= 1
    text = three("info")
    assert " Containers: 3\n  Running: 1\n" in text and "Kernel Version" in text
    until(lambda: three("info", "-f", "{{.ContainersRunning}}") == "1")
