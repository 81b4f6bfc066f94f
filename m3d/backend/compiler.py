"""torch.compile: whether this machine can compile, the folder of its cache, and how a function is compiled."""

import contextlib
import importlib.util
import os
import shutil
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from m3d.backend.own_folder import temporary_folder

SHAPES = 64
"""Shapes per function and process; above torch's own limit of 8 it would silently run eagerly."""

CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
"""Environment variable with the folder of compiled code."""

GRAPH_ERRORS = ("cudagraph", "cuda graph", "stream is captur", "during capture", "graph capture")
"""Words, in lower case, of which one is in the message if a CUDA graph cannot be recorded or replayed."""

LOCK_S = 300.0
"""Seconds to wait for another process that is compiling."""


def missing(device: torch.device) -> str | None:
    """The tool that this machine lacks for compiling, as a noun; None if it can compile.

    Code for a CPU is C++. Code for a GPU is loaded by a small C extension.
    """
    if not _compiler():
        return "C++ compiler (c++, g++ or clang++)" if device.type == "cpu" else "C compiler (cc, gcc or clang)"
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").exists():
        return "Python headers (Python.h)"
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        return "Triton"
    return None


def compiled(function: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """The function compiled for static shapes; on a GPU as a CUDA graph."""
    path = _compiler()
    if path:
        os.environ.setdefault("CXX", path)  # torch itself looks only for g++, when its compiler is imported
    _use_cache_folder()
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, SHAPES)
    if device.type != "cuda":
        return torch.compile(function, dynamic=False, fullgraph=True)
    graphed = torch.compile(function, dynamic=False, fullgraph=True, mode="reduce-overhead")
    # A graph writes every result to the same memory, and the caller may still need the previous one.
    return lambda *arguments, **options: graphed(*arguments, **options).clone()


def _use_cache_folder() -> None:
    """Sets TORCHINDUCTOR_CACHE_DIR to our cache folder unless the user set it.

    Importing Inductor, which some optimisers do, sets it to a folder below /tmp.
    """
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    if os.environ.get(CACHE_VARIABLE) in (None, default_cache_dir()):
        os.environ[CACHE_VARIABLE] = cache_folder()


def cache_folder() -> str:
    """Folder of compiled code, shared between processes: below XDG_CACHE_HOME or ~/.cache, else below the temporary folder."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    wanted = Path(base) / "m3d-condense" / "compiled"
    try:
        wanted.mkdir(parents=True, exist_ok=True)
    except OSError:
        writable = False
    else:
        writable = os.access(wanted, os.W_OK)
    if writable:
        return str(wanted)
    return str(temporary_folder("m3d-condense"))


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """A lock between the processes of this machine and user, so that the second one finds the code of the first."""
    lock = FileLock(Path(cache_folder()) / "lock")
    try:
        lock.acquire(timeout=LOCK_S)
    except (OSError, NotImplementedError):  # locked for too long, or no locks on this file system: compile twice
        yield
        return
    try:
        yield
    finally:
        lock.release()


def failed(error: BaseException) -> bool:
    """Whether the compiler or a CUDA graph failed, rather than the program itself."""
    from torch._dynamo.exc import TorchDynamoException  # takes a second to import

    if isinstance(error, torch.OutOfMemoryError):  # its text mentions the memory of CUDA graphs
        return False
    if isinstance(error, TorchDynamoException) or type(error).__module__.startswith(
        ("torch._inductor", "torch._dynamo", "triton")
    ):
        return True
    text = str(error).lower()  # torch has no separate class for these
    return isinstance(error, RuntimeError) and any(words in text for words in GRAPH_ERRORS)


def reason(error: BaseException) -> str:
    """Why the compiler failed, in one line: the first line of its inner exception, if it has one."""
    message = str(getattr(error, "inner_exception", None) or error)
    return next((line.strip() for line in message.splitlines() if line.strip()), type(error).__name__)


def _compiler() -> str | None:
    named = os.environ.get("CXX")
    return next((path for name in (named, "c++", "g++", "clang++") if name and (path := shutil.which(name))), None)
