"""What is compiled computes what is eager."""

import json
import os
import subprocess
import sys

import pytest
import torch

from m3d.backend import compiler


@pytest.mark.skipif(bool(compiler.missing(torch.device("cpu"))), reason="no compiler on this machine")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("options", [["--short"], pytest.param([], marks=pytest.mark.slow)], ids=["short", "whole"])
def test_compiled_equals_eager(options):
    command = [sys.executable, "-W", "ignore", "-m", "tests.m3d.backend.compiled", *options]
    environment = {name: value for name, value in os.environ.items() if name != compiler.CACHE_VARIABLE}
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    difference = json.loads(done.stdout)
    assert difference["loss"] < 1e-6
    assert difference["gradient"] < 1e-5
    if not options:
        assert difference["logits"] < 1e-4
    assert difference["cache"] == compiler.cache_folder()


def test_what_is_missing(monkeypatch, tmp_path):
    cpu = torch.device("cpu")
    monkeypatch.setattr("m3d.backend.compiler.shutil.which", lambda name: None)
    assert compiler.missing(cpu) == "C++ compiler (c++, g++ or clang++)"
    monkeypatch.setattr("m3d.backend.compiler.shutil.which", lambda name: "/usr/bin/" + name)
    monkeypatch.setattr("m3d.backend.compiler.sysconfig.get_paths", lambda: {"include": str(tmp_path)})
    assert compiler.missing(cpu) == "Python headers (Python.h)"
    (tmp_path / "Python.h").touch()
    assert compiler.missing(cpu) is None


def test_a_failing_compiler_is_told_from_a_failing_program():
    from torch._dynamo.exc import BackendCompilerFailed

    assert compiler.failed(BackendCompilerFailed(lambda: None, RuntimeError("no space left"), None))
    assert compiler.failed(RuntimeError("CUDA error: operation not permitted when stream is capturing"))
    assert compiler.failed(RuntimeError("accessing tensor output of CUDAGraphs that has been overwritten"))
    assert not compiler.failed(RuntimeError("shapes do not fit"))
    memory = "CUDA out of memory. Of it 1.00 GiB is allocated in private pools (e.g., CUDA Graphs)"
    assert not compiler.failed(torch.OutOfMemoryError(memory))
    assert compiler.reason(BackendCompilerFailed(lambda: None, RuntimeError("no space left"), None)) == "no space left"
    assert compiler.reason(RuntimeError("\n  one \n two")) == "one"
    assert compiler.reason(RuntimeError()) == "RuntimeError"
    assert not compiler.failed(ValueError("captured"))


def test_code_is_kept_in_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert compiler.cache_folder() == str(tmp_path / "m3d-condense" / "compiled")
    (tmp_path / "file").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        assert "m3d-condense-" in compiler.cache_folder()
    with compiler.alone():
        assert (tmp_path / "m3d-condense" / "compiled" / "lock").exists()
