"""What a dead daemon's builds left goes beside the next one's start, not before it."""

import asyncio
from types import SimpleNamespace

from corten.engine.builds import Builds


def test_the_start_does_not_wait_for_the_disk(tmp_path):
    for name in ("build/folders/abc/context/file", "build/def/context.tar", "run/build-1/secret", "run/other/stays"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    later = []
    builds = Builds.__new__(Builds)
    builds.cache = builds.history = SimpleNamespace(load=lambda: None)
    builds.engine = SimpleNamespace(spawn=later.append, layout=SimpleNamespace(build=f"{tmp_path}/build", exec_root=f"{tmp_path}/run"))
    builds.load()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["other"]  # a secret goes at once
    left = {path.name for path in (tmp_path / "build").iterdir()}
    assert "def" in left and "folders" not in left and len(left) == 2  # nobody takes an old folder for a kept one
    (tmp_path / "build/folders").mkdir()
    asyncio.run(later.pop())
    assert [path.name for path in (tmp_path / "build").iterdir()] == ["folders"] and not later
