"""The data card of an export: Markdown with a header in YAML, which the Hugging Face hub shows and searches.

Names come from data that nobody vouches for: the header is written by PyYAML, and the text escapes what Markdown or
HTML would read.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from pipeline.errors import printable
from pipeline.evaluate.rows import EvaluationRow
from pipeline.exports.about import About
from pipeline.formats.condensed_writer import IN_CODE

SHOWN = 10
"""Most images of a class in the contact sheet."""
PAPER = "[M3D](https://arxiv.org/abs/2312.15927) (Zhang et al., AAAI 2024)"
LICENCES = {
    *(
        "mit",
        "apache-2.0",
        "bsd-2-clause",
        "bsd-3-clause",
        "gpl-3.0",
        "lgpl-3.0",
        "mpl-2.0",
        "unlicense",
        "odbl",
        "pddl",
    ),
    *("cc0-1.0", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-3.0", "cc-by-nc-4.0"),
    *("cc-by-nd-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "odc-by", "openrail"),
}
"""Licences that the hub knows by these names; others are ``other`` with their own name."""
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
"""Numbers of images as the hub groups them."""
COMPARED = {"condensed": "this set", "random": "random real images", "whole": "all real images"}
"""Sets whose accuracies the card lists, and what it calls them."""


class _Dumper(yaml.SafeDumper):
    """Writes texts with line ends on one line, so that no name looks like the end of the header."""


def _text_node(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if "\n" in text else None)


_Dumper.add_representer(str, _text_node)


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What the card says besides ``m3d.json``."""

    about: About
    command: str | None
    """Command that makes the set again, if it is known."""
    stored: int
    """Stored images of every class, before decoding."""
    source: str
    """What made the set, if no command is known: a format that it was imported from, or ``m3d.condense``."""
    factor: int
    """Tiles along a side of a stored image."""
    rounding: str
    """How pixels were rounded, in words."""
    rows: Sequence[EvaluationRow] = field(default_factory=tuple)
    """Rows of evaluation.json."""


def card(facts: CardFacts) -> str:
    """Returns the card."""
    sections = (
        _header(facts),
        _summary(facts),
        _use(facts),
        _accuracies(facts.rows),
        _making(facts),
        _classes(facts.about),
    )
    return "\n".join(sections)


def _header(facts: CardFacts) -> str:
    about = facts.about
    count = about["images_per_class"] * len(about["classes"])
    licence = (about["licence"] or "unknown").lower()
    known = licence in LICENCES or licence == "unknown"
    names = {str(entry["label"]): entry["name"] for entry in about["classes"]}
    features = [
        {"name": "image", "dtype": "image"},
        {"name": "label", "dtype": {"class_label": {"names": names}}},
    ]
    header: Mapping[str, Any] = {
        "license": licence if known else "other",
        **({} if known else {"license_name": about["licence"]}),
        "pretty_name": _title(facts),
        "task_categories": ["image-classification"],
        "size_categories": [next((name for most, name in SIZES if count < most), "n>1M")],
        "tags": ["dataset-distillation", "dataset-condensation", "m3d", f"ipc-{facts.stored}", "synthetic"],
        "configs": [
            {"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]},
        ],
        "dataset_info": {"features": features},
    }
    return f"---\n{yaml.dump(header, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**6)}---\n"


def _summary(facts: CardFacts) -> str:
    about = facts.about
    channels, height, width = about["shape"]
    classes, per_class = len(about["classes"]), about["images_per_class"]
    kind = "colour" if channels == 3 else "grey"
    images, tiles = "image" if facts.stored == 1 else "images", f"{facts.factor} x {facts.factor}"
    if facts.factor == 1:
        views = ""
    elif about["factor"] == 1:
        views = (
            f"\nThey are the tiles of {facts.stored} stored {images} per class, {tiles} in each, enlarged bilinearly."
        )
    else:
        views = f"\nEach holds {tiles} tiles, which are to be cut and enlarged bilinearly before training."
    shown = _counted(min(per_class, SHOWN))
    return f"""# {_text(_title(facts))}

![{shown} of each class, in label order](contact-sheet.png)

{classes * per_class} synthetic {kind} images of {height} x {width} px, {per_class} of each of {classes} classes.{views}
They were optimised so that networks trained on them come close to networks trained on the real images. They are no
photographs of anything.
"""


def _title(facts: CardFacts) -> str:
    return f"{facts.about['name']}, condensed to {_counted(facts.stored)} per class"


def _counted(images: int) -> str:
    return "1 image" if images == 1 else f"{images} images"


def _use(facts: CardFacts) -> str:
    about = facts.about
    return f"""## Use

```python
from datasets import load_dataset

train = load_dataset("PATH", split="train").with_format("torch")  # image, label
```

Normalise with the moments of the real images, for training and for testing: mean {_numbers(about["mean"])}, standard
deviation {_numbers(about["std"])}. {facts.rounding}
"""


def _accuracies(rows: Sequence[EvaluationRow]) -> str:
    """A line per network and protocol, with mean and standard deviation over the seeds."""
    groups: dict[tuple[str, ...], dict[str, EvaluationRow]] = {}
    for row in rows:
        if row["set"] in COMPARED:
            key = ("architecture", "protocol", "on", "augmentation", "labels")
            groups.setdefault(tuple(str(row.get(name, "")) for name in key), {})[row["set"]] = row
    # ``whole`` has a schedule of its own, so its row stands beside every row of its network.
    whole = {key[0]: sets["whole"] for key, sets in groups.items() if "whole" in sets}
    names = [name for name in COMPARED if name != "whole" or whole]
    lines = []
    for (architecture, protocol, on, _, labels), sets in groups.items():
        if "condensed" not in sets:
            continue
        shown = {**sets, **({"whole": whole[architecture]} if architecture in whole else {})}
        cells = [_accuracy(shown.get(name)) for name in names]
        how = f"{protocol}, {labels} labels, {len(sets['condensed'].get('seeds', ()))} networks, {on} images"
        lines.append(f"| {_text(architecture)} | {_text(how)} | {' | '.join(cells)} |")
    if not lines:
        return "## Accuracy\n\nNot measured yet: `python -m pipeline evaluate`.\n"
    titles = " | ".join(COMPARED[name] for name in names)
    table = "\n".join([f"| network | protocol | {titles} |", "| --- " * (2 + len(names)) + "|", *lines])
    return f"## Accuracy\n\nIn percent, mean and standard deviation over networks with different seeds.\n\n{table}\n"


def _accuracy(row: EvaluationRow | None) -> str:
    if row is None:
        return ""
    count = len(row.get("accuracies", ()))
    return f"{row['mean']:.1f} ± {row['std']:.1f}" if count > 1 else f"{row['mean']:.1f} (1 network)"


def _making(facts: CardFacts) -> str:
    about = facts.about
    parts = ["## How it was made", ""]
    if facts.command is not None:
        data = " `DATA` is the folder of the real images." if " --data DATA " in facts.command else ""
        parts += [f"Condensed with {PAPER}.{data}", "", "```bash", _code(facts.command), "```"]
    elif facts.source == IN_CODE:
        parts += [f"Condensed with {PAPER}, in Python; the settings are not recorded."]
    else:
        parts += [f"Imported from a file of the format `{_code(facts.source)}`; how it was made is not recorded."]
    if commit := about.get("commit"):
        parts += ["", f"Commit: `{_code(commit)}`."]
    if versions := about.get("versions"):
        listed = ", ".join(f"{_text(name)} {_text(version)}" for name, version in versions.items())
        parts += ["", f"Versions: {listed}."]
    parts += ["", f"Licence of the real images: {_text(about['licence'] or 'not stated')}.", ""]
    return "\n".join(parts)


def _classes(about: About) -> str:
    lines = [f"| {entry['label']} | {_text(entry['name'])} | {_text(entry['wnid'])} |" for entry in about["classes"]]
    return "\n".join(["## Classes", "", "| label | name | WordNet id |", "| --- | --- | --- |", *lines, ""])


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


def _text(text: str) -> str:
    """Text of others within Markdown: on one line, with its signs escaped."""
    flat = " ".join(printable(text).split())
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", flat)


def _code(text: str) -> str:
    """Text of others within a block of code."""
    return printable(text).replace("`", "'")
