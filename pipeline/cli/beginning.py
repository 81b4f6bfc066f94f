"""Commands for those who begin: ``init``, ``presets`` and ``completion``."""

import argparse
import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli import completion as completions
from pipeline.cli import program
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.workflow.proposal import Proposal

WRITTEN = ("data", "encoder", "condense", "evaluate")
"""Sections of a configuration that ``init`` writes, as far as they differ from the defaults."""


def init(options: argparse.Namespace) -> None:
    """``init``: looks at a folder, and writes a configuration for it."""
    from pipeline.observability.progress import say
    from pipeline.workflow.proposal import propose

    count = options.images_per_class
    if count is not None and not 1 <= count <= 10_000:
        raise UserError(f"--images-per-class {count}: allowed: a number from 1 to 10000")
    name = _name(options.folder)
    path = Path(options.out or f"{name}.yaml")
    _require_writable(path, options.force)
    proposal = propose(options.folder, count)
    for line in (*proposal.found, *(f"proposed: {reason}" for reason in proposal.reasons), _time(proposal)):
        say(line)
    _write(path, proposal, options.force)
    start = program.started_as()
    say(f"wrote {path}; change it as you like, then run:")
    say(f"  {start} run --config {shlex.quote(str(path))} --out {shlex.quote(f'runs/{name}')}")


def presets(_: argparse.Namespace) -> None:
    """``presets``: prints the table of presets."""
    from pipeline.cli.preset_table import NOTE, lines

    print("\n".join([*lines(), "", NOTE]))


def completion(options: argparse.Namespace) -> None:
    """``completion``: prints a script for a shell."""
    from pipeline.cli.parser import build_parser

    print(completions.script(build_parser(program.SCRIPT), options.shell))


def _name(folder: str) -> str:
    """A name for files, from the name of a folder."""
    last = Path(folder).absolute().name if "://" not in folder else folder.rstrip("/").rsplit("/", 1)[-1]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-.") or "data"


def _require_writable(path: Path, force: bool) -> None:
    """Raises UserError if the file exists without --force, is a folder, has another ending, or has no folder."""
    if path.suffix.lower() not in (".yaml", ".yml", ".json"):
        raise UserError(f"--out {path}: is neither .yaml nor .json; choose such a name")
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f"--out {path}: {'is a folder' if path.is_dir() else 'its folder does not exist'}; name a file")
    if (path.exists() or path.is_symlink()) and not force:
        raise UserError(f"{path}: exists; choose another --out, or add --force to overwrite it")


def _time(proposal: "Proposal") -> str:
    """A line on how long the proposed run takes."""
    from pipeline.observability.progress import about

    if proposal.seconds is None:
        return "time: plan --config measures it on the GPU in about a minute"
    return f"time: roughly {about(proposal.seconds)} for the complete run on the CPUs of this machine; plan --config measures it"


def _write(path: Path, proposal: "Proposal", force: bool) -> None:
    """Writes the file: all at once, and never over another one without --force."""
    from pipeline import storage

    values = _changed(proposal)
    if path.suffix.lower() == ".json":
        text = json.dumps(values, indent=2) + "\n"
    else:
        import yaml

        header = "".join(f"# {line}\n" for line in ("Written by init. Every setting: show-config.", *proposal.reasons))
        text = header + yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    _require_writable(path, force)  # looking at the folder may have taken minutes
    storage.write_bytes(str(path.absolute()), text.encode())


def _changed(proposal: "Proposal") -> dict[str, dict[str, object]]:
    """The settings that differ from the defaults, by section."""
    from pipeline.config.parsing import to_dict
    from pipeline.config.run_config import RunConfig

    values, defaults = to_dict(proposal.config), to_dict(RunConfig())
    return {
        section: {key: value for key, value in values[section].items() if value != defaults[section][key]}
        for section in WRITTEN
    }
