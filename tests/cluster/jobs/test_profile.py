"""Profiles: every key is read, and every mistake is one line."""

import dataclasses
import json
import os
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.errors import ClusterError
from cluster.jobs.profile import Profile, read


def test_an_empty_profile_is_the_default(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing\n")
    assert read(str(path), {}) == Profile()


def test_every_key_is_read(tmp_path: Path) -> None:
    path = tmp_path / "all.yaml"
    path.write_text(
        "address: http://head:8265\npython: /opt/venv/bin/python\nupload: false\npip: [m3d-condense==0.1.0]\n"
        "env: {AWS_REGION: eu-west-1}\nentrypoint_num_cpus: 1\nentrypoint_num_gpus: 0.5\nentrypoint_memory: 1000000\n"
        "entrypoint_resources: {head: 0.1}\nmetadata: {team: vision}\n"
    )
    profile = read(str(path), {})
    assert (profile.address, profile.python, profile.upload) == ("http://head:8265", "/opt/venv/bin/python", False)
    assert (profile.pip, profile.env, profile.metadata) == (
        ["m3d-condense==0.1.0"],
        {"AWS_REGION": "eu-west-1"},
        {"team": "vision"},
    )
    assert (profile.entrypoint_num_cpus, profile.entrypoint_num_gpus, profile.entrypoint_memory) == (1, 0.5, 1000000)
    assert profile.entrypoint_resources == {"head": 0.1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pyton: python3", "unknown key 'pyton'; allowed: address,"),
        ("pyton: python3", "did you mean 'python'?"),
        ("- a\n- b", "given list, needed keys with values"),
        ("upload: 1", "upload: given int, needed true or false"),
        ("env: {A: 1}", "env: given dict, needed names with texts; quote numbers"),
        ("pip: numpy", "pip: given str, needed a list of texts"),
        ("entrypoint_num_cpus: true", "entrypoint_num_cpus: given bool, needed a number"),
        ("entrypoint_num_cpus: -1", "entrypoint_num_cpus: given -1, allowed: a number from 0"),
        ("entrypoint_memory: 0", "entrypoint_memory: given 0, allowed: bytes, from 1"),
        ("entrypoint_memory: 99999999999999999999", "entrypoint_memory: given 99999999999999999999, allowed: bytes"),
        ("entrypoint_resources: {head: .nan}", "entrypoint_resources: head: given nan, allowed: a number from 0"),
        ("a: [", "is not valid YAML"),
        ("[" * 500, "is not valid YAML (nested too deeply)"),
        ("env: {A: 2026-02-31}", "cannot be read (day is out of range for month)"),
        ("entrypoint_memory: " + "9" * 5000, "cannot be read (Exceeds the limit"),
        ("entrypoint_num_cpus: " + "9" * 1000, "999..., allowed: a number from 0"),
        ('python: "\\ud800"', "python: given str, needed a text"),
        ('python: "a\\0b"', "python: given str, needed a text"),
        ('"\\e[2Jx": 1', "unknown key '\\x1b[2Jx'"),
        ("x: " + "y" * 2**20, "is larger than 1 MiB"),
        ("env: {AWS_SECRET_ACCESS_KEY: abc}", "env: AWS_SECRET_ACCESS_KEY is a secret by its name"),
        ("env: {RAY_AUTH_TOKEN: abc}", "env: RAY_AUTH_TOKEN is a secret by its name"),
        ("env: {PROXY: 'http://me:word@proxy'}", "env: PROXY: contains a URL with a user name"),
        ("metadata: {password: abc}", "metadata: password is a secret by its name"),
        ("pip: ['https://me:word@index/m3d.whl']", "pip: contains a URL with a user name"),
    ],
)
def test_a_wrong_profile_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(ClusterError) as caught:
        read(str(path), {})
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"--profile {path}")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600
    assert "abc" not in str(caught.value)
    assert "word@" not in str(caught.value)


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ClusterError, match="is not a file; give a YAML file"):
            read(str(path), {})


def test_a_missing_profile(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="cannot be read"):
        read(str(tmp_path / "none.yaml"), {})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates() | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from([each.name for each in dataclasses.fields(Profile)])


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=100) | st.dictionaries(KEYS, VALUES, max_size=4).map(yaml.safe_dump))
def test_any_file_is_a_profile_or_an_error_of_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "any.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        json.dumps(dataclasses.asdict(read(str(path), {})), allow_nan=False).encode()
    except ClusterError as error:
        assert len(" ".join(str(error).split())) < 800
