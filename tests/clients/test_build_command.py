"""`corten buildx build` in buildx's place: what is asked of docker's plugin elsewhere here, asked of our own command."""

import json
import os
import re
import stat
import sys

import pytest
from buildx_client import Client
from test_buildx import (  # noqa: F401 - each is run here by our client
    test_a_client_that_leaves_ends_its_build,
    test_a_secret_stays_nowhere,
    test_a_step_that_fails_says_which,
    test_mounts_of_a_step,
    test_one_of_the_stages_fails,
    test_only_one_stage_does_without_the_cache,
    test_pushed_to_a_registry,
    test_stages_arguments_and_names,
    test_stages_that_do_not_wait_for_each_other_run_together,
    test_the_cache_and_what_ends_it,
    test_the_id_and_the_metadata,
    test_the_same_step_of_two_builds_is_done_once,
    test_what_cannot_be_done_is_said,
)
from test_buildx_attest import (  # noqa: F401
    test_a_push_has_provenance_and_runs_everywhere,
    test_all_of_it,
    test_in_archives_and_folders_on_request_alone,
)
from test_buildx_cache import (  # noqa: F401
    test_checks_outline_and_targets,
    test_other_caches_are_refused_by_name,
    test_the_cache_goes_elsewhere_and_comes_back,
    test_the_least_recently_used_goes_first,
    test_what_it_holds_and_what_of_it_goes,
)
from test_buildx_check import (  # noqa: F401
    test_checks_are_shown_with_their_lines,
    test_outline_and_targets,
    test_warnings_of_a_build_and_errors_with_their_lines,
)
from test_buildx_contexts import (  # noqa: F401
    test_a_dockerfile_on_standard_input_with_a_context_and_without,
    test_a_folder_is_a_base_and_takes_a_stage_s_place,
    test_a_folder_is_fetched_once_and_then_what_changed,
    test_a_stage_is_replaced_and_not_built,
    test_a_tar_behind_a_url,
    test_a_tar_on_standard_input,
    test_an_ssh_agent,
    test_contexts_by_name,
    test_limits_and_hosts_of_steps,
)
from test_buildx_outputs import (  # noqa: F401
    files,
    test_a_file_to_standard_output,
    test_a_folder_and_a_tar_of_the_files,
    test_a_layout_as_a_folder_is_a_context_again,
    test_an_archive_is_a_layout_and_can_be_loaded,
    test_annotations_have_four_places,
    test_docker_media_types_when_asked,
    test_here_in_a_file_and_pushed_at_once,
    test_layers_are_compressed_as_asked,
    test_names_of_all_kinds,
    test_the_same_image_twice_with_a_time_for_all,
    test_what_cannot_be_made_is_refused_before_anything_is_built,
)


@pytest.fixture
def client(engine, tmp_path):
    program = tmp_path / "ours"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -m corten.cli buildx \"$@\"\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    os.makedirs(tmp_path / "config")
    return Client(program, engine, tmp_path)


def test_what_the_result_lacks_goes_from_the_folder_on_request(client, tmp_path):
    (tmp_path / "out/old").mkdir(parents=True)
    (tmp_path / "out/old/file").touch()
    client.write(data="one\n")
    text = "FROM scratch\nCOPY data /new\n"
    client.build(text, "-o", f"type=local,dest={tmp_path}/out,mode=copy")
    assert sorted(os.listdir(tmp_path / "out")) == ["new", "old"]
    client.build(text, "-o", f"type=local,dest={tmp_path}/out,mode=delete")
    assert sorted(os.listdir(tmp_path / "out")) == ["new"]


def test_the_metadata_names_the_build_as_the_history_does(client, tmp_path):
    client.build("FROM busybox\nENV A=1\n", "--metadata-file", tmp_path / "meta")
    builder, node, ref = json.loads((tmp_path / "meta").read_text())["buildx.build.ref"].split("/")
    assert (builder, node) == ("default", "default")
    assert re.fullmatch("[0-9a-z]{20,}", ref)
