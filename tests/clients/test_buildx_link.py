"""COPY --link by docker buildx: a layer that does not know what it lies on (what is in it: test_build_conformance.py)."""

TEXT = "FROM busybox\nRUN echo {} >/base\nCOPY --link data /d/data\nCOPY --link <<FILE /in\ntext\nFILE\n"


def layers(client, image):
    return client.engine.api("GET", f"/images/{image}/json").json["RootFS"]["Layers"]


def test_another_base_keeps_the_layers(client):
    client.write(data="linked\n")
    client.build(TEXT.format("one"), "-t", "linked:1")
    told = client.build(TEXT.format("two"), "-t", "linked:2")
    steps = {line.split()[0] for line in told.splitlines() if "COPY --link" in line and line.startswith("#")}
    cached = {line.split()[0] for line in told.splitlines() if line.endswith("CACHED")}
    assert len(steps) == 2 and steps <= cached
    one, two = layers(client, "linked:1"), layers(client, "linked:2")
    assert one[0] == two[0] and one[1] != two[1] and one[2:] == two[2:] and len(two) == 4
    assert client.run("linked:2", "cat", "/base", "/d/data", "/in") == "two\nlinked\ntext\n"
    shown = {(row["Id"], bool(row["RepoTags"])) for row in client.engine.api("GET", "/images/json?all=1").json}
    alone = client.engine.docker("image", "inspect", one[2], timeout=60)  # the layer's image is nobody's to see
    assert alone.returncode and not any(identity == one[2] for identity, _ in shown)


def test_the_same_layer_twice_and_on_nothing(client):
    client.write(data="linked\n")
    client.build("FROM busybox\nCOPY --link data /d/\nRUN echo more >>/d/data\nCOPY --link data /d/\n", "-t", "twice:1")
    found = layers(client, "twice:1")
    assert found[1] == found[3] and client.run("twice:1", "cat", "/d/data") == "linked\n"
    client.build("FROM scratch\nCOPY --link data /d/\n", "-t", "bare:1", "--platform", "linux/arm64")
    assert layers(client, "bare:1") == [found[1]]


def test_all_of_it_goes(client):
    client.write(data="freed\n")
    client.build(TEXT.format("three"), "-t", "freed:1")
    client.build(TEXT.format("four"), "-t", "freed:2")
    client.engine.docker("rmi", "freed:1")
    assert client.run("freed:2", "cat", "/d/data") == "freed\n"  # a folder that both images shared
    client.engine.docker("rmi", "freed:2")
    client.engine.docker("builder", "prune", "-af")
    left = client.engine.api("GET", "/system/df").json
    assert not left["BuildCache"]
