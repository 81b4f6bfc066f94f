"""torch.compile: whether this machine can, where its cache lies, and how a function is compiled here."""

import contextlib
import importlib.util
import os
import shutil
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

SHAPES = 64
"""Shapes that one function may be compiled for in a process; torch's own limit of 8 falls back to eager in silence."""

CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"

GRAPH_ERRORS = ("cudagraph", "cuda graph", "stream is captur", "during capture", "graph capture")
"""Of which one is in the message, in small letters, when a CUDA graph cannot be recorded or replayed."""

LOCK_S = 300.0
"""Seconds to wait for another process that compiles."""


def missing(device: torch.device) -> str | None:
    """What a compiler would need and this machine lacks, as a noun; None where it can compile.

    The CPU's code is C++, and a GPU's is loaded through a small C extension.
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
    found = _compiler()
    if found:
        os.environ.setdefault("CXX", found)  # torch itself looks for g++ alone, when its compiler is imported
    _use_cache_folder()
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, SHAPES)
    if device.type != "cuda":
        return torch.compile(function, dynamic=False, fullgraph=True)
    graphed = torch.compile(function, dynamic=False, fullgraph=True, mode="reduce-overhead")
    # A graph writes its result to the same place every time, and the caller may still need the one before.
    return lambda *arguments, **options: graphed(*arguments, **options).clone()


def _use_cache_folder() -> None:
    """Unless a person chose another. When its compiler is imported, by an optimiser even, torch puts a folder below /tmp there."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    if os.environ.get(CACHE_VARIABLE) in (None, default_cache_dir()):
        os.environ[CACHE_VARIABLE] = cache_folder()


def cache_folder() -> str:
    """Where compiled code is kept between processes: under XDG_CACHE_HOME or ~/.cache, else under the temporary folder."""
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
    instead = Path(tempfile.gettempdir()) / f"m3d-condense-{os.getuid()}"
    instead.mkdir(exist_ok=True)
    return str(instead)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Within it no other process of this machine and user compiles: the second one finds what the first has made."""
    lock = FileLock(Path(cache_folder()) / "lock")
    try:
        lock.acquire(timeout=LOCK_S)
    except (OSError, NotImplementedError):  # held for long, or a file system without locks: the same is compiled twice
        yield
        return
    try:
        yield
    finally:
        lock.release()


def failed(error: BaseException) -> bool:
    """Whether the compiler failed, or the recording or replaying of a CUDA graph, rather than the program itself."""
    from torch._dynamo.exc import TorchDynamoException  # takes a second to import

    if isinstance(error, torch.OutOfMemoryError):  # whose text counts what CUDA graphs hold
        return False
    if isinstance(error, TorchDynamoException) or type(error).__module__.startswith(
        ("torch._inductor", "torch._dynamo", "triton")
    ):
        return True
    text = str(error).lower()  # torch has no class of its own for these
    return isinstance(error, RuntimeError) and any(words in text for words in GRAPH_ERRORS)


def reason(error: BaseException) -> str:
    """Why the compiler failed, in a line: of what went wrong inside it, where it says that."""
    told = str(getattr(error, "inner_exception", None) or error)
    return next((line.strip() for line in told.splitlines() if line.strip()), type(error).__name__)


def _compiler() -> str | None:
    named = os.environ.get("CXX")
    return next((path for name in (named, "c++", "g++", "clang++") if name and (path := shutil.which(name))), None)
