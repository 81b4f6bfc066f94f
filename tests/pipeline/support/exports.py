"""Exports of a condensed set, for the tests of their readers."""

from pathlib import Path
from typing import Any

import torch

from pipeline.exports.export_set import ExportRequest, run_export
from pipeline.exports.import_set import ImportRequest, run_import
from pipeline.formats.condensed_reader import load_condensed


def exported(source: Path, form: str, **options: Any) -> Path:
    """The folder of a new export beside the set."""
    out = source.parent / f"{form}-export"
    run_export(str(source), ExportRequest(format=form, **options), str(out))
    return out


def imported(file: Path, form: str, **options: Any) -> Path:
    """The folder of a new set that was imported."""
    out = file.parent / f"{form}-set"
    run_import(str(file), ImportRequest(format=form, **options), str(out))
    return out


def views(source: Path) -> torch.Tensor:
    """The decoded images of a set in [0, 1], class by class."""
    return load_condensed(str(source), normalise=False).images


def stored(source: Path) -> torch.Tensor:
    """The stored images of a set in [0, 1], class by class."""
    return load_condensed(str(source), decode=False, normalise=False).images


def rounded(images: torch.Tensor) -> torch.Tensor:
    """Images as 8-bit PNG has them, uint8."""
    return (images * 255).round().byte()
