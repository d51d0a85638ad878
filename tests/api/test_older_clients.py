"""What docker-compose 1.29 and other clients of older API versions depend on."""

import json
import os

from build_context import build


def test_image_config_of_the_days_before_1_45(engine):
    build(engine, "FROM busybox\nARG a\nARG b\nVOLUME /v\nRUN echo $a\n", t="older", buildargs='{"a":"1","b":"x"}')
    shown = engine.api("GET", "/v1.44/images/older/json").json
    assert shown["ContainerConfig"]["Volumes"] == {"/v": {}}
    assert shown["ContainerConfig"]["Cmd"] == ["|2", "a=1", "b=x", "/bin/sh -c echo $a"]
    assert "ContainerConfig" not in engine.api("GET", "/v1.45/images/busybox/json").json


def test_errors_are_the_same_for_every_version(engine):
    for version in ("1.24", "1.38", "1.51"):
        answer = engine.api("GET", f"/v{version}/images/absent/json", timeout=90)
        assert answer.status == 404 and answer.json == {"message": "No such image: absent:latest"}


def test_ipc_can_be_shared_by_default_before_1_40(engine):
    def mode(version):
        made = engine.api("POST", f"/v{version}/containers/create", {"Image": "busybox", "HostConfig": {}}).json
        return engine.inspect(made["Id"])["HostConfig"]["IpcMode"]

    assert mode("1.39") == "shareable" and mode("1.40") == "private"


def test_mounts_show_what_was_asked_for(engine):
    asked = [{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1 << 20}},
             {"Type": "volume", "Target": "/v", "VolumeOptions": {"NoCopy": True}},
             {"Type": "bind", "Source": "/tmp", "Target": "/b", "BindOptions": {"Propagation": "rslave"}}]
    container = engine.create("true", HostConfig={"Mounts": asked})
    assert engine.inspect(container)["HostConfig"]["Mounts"] == asked


def test_the_hosts_message_queues(engine):
    container = engine.run("sh", "-c", "grep -c mqueue /proc/mounts; readlink /proc/self/ns/ipc", HostConfig={"IpcMode": "host"})
    assert engine.wait(container) == 0
    assert engine.logs(container).split() == ["1", os.readlink("/proc/self/ns/ipc")]


def test_network_options_of_other_makers_and_ipv6(engine):
    asked = {"Name": "older", "Options": {"com.docker.network.enable_ipv6": "true"},
             "IPAM": {"Options": {"com.docker.compose.network.test": "9-29-045"}}}
    made = engine.api("POST", "/networks/create", asked)
    assert made.status == 201, made.body
    shown = engine.api("GET", "/networks/older").json
    assert shown["EnableIPv6"] and shown["IPAM"]["Options"] == {"com.docker.compose.network.test": "9-29-045"}
    assert engine.api("DELETE", "/networks/older").status == 204


def test_a_containers_address_follows_it_to_its_main_network(engine):
    engine.api("POST", "/networks/create", {"Name": "home"})
    mac = "02:42:ac:11:22:33"
    made = engine.api("POST", "/v1.38/containers/create", {
        "Image": "busybox", "Cmd": ["top"], "MacAddress": mac, "HostConfig": {"NetworkMode": "home"}}).json["Id"]
    engine.api("POST", "/networks/home/disconnect", {"Container": made})
    assert engine.api("POST", "/networks/home/connect", {"Container": made, "EndpointConfig": {}}).status == 200
    engine.api("POST", f"/containers/{made}/start")
    assert engine.inspect(made)["NetworkSettings"]["Networks"]["home"]["MacAddress"] == mac, json.dumps(engine.inspect(made))
    engine.api("DELETE", f"/containers/{made}?force=1")
    engine.api("DELETE", "/networks/home")


def test_shared_memory_goes_with_the_ipc_namespace(engine):
    donor = engine.run("sh", "-c", "echo shared >/dev/shm/word; sleep 1000", HostConfig={"IpcMode": "shareable", "ShmSize": 1 << 20})
    until = "while [ ! -s /dev/shm/word ]; do sleep 0.05; done; cat /dev/shm/word; df -k /dev/shm | tail -1; rm /dev/shm/word"
    guest = engine.run("sh", "-c", until, HostConfig={"IpcMode": f"container:{donor}"})
    assert engine.wait(guest) == 0
    said = engine.logs(guest).split()
    assert said[0] == "shared" and said[2] == "1024"
    assert engine.docker("exec", donor, "ls", "/dev/shm").stdout == ""


def test_a_limit_the_kernel_refuses_is_told_as_runc_does(engine):
    whole = engine.create("true", HostConfig={"CpusetMems": "0", "BlkioWeightDevice": []})
    assert engine.api("POST", f"/containers/{whole}/start").status == 204
    refused = engine.create("true", HostConfig={"Memory": 1 << 30, "MemorySwap": 1 << 30, "CpuPeriod": 1000, "CpuQuota": 1 << 60})
    answer = engine.api("POST", f"/containers/{refused}/start")
    assert answer.status == 500 and answer.message.startswith("failed to create task for container: ")
    assert "unable to apply cgroup configuration: failed to write: write /sys/fs/cgroup/" in answer.message
    assert answer.message.endswith(": invalid argument")
