"""Configurations, search spaces, profiles and lists of names: texts that people write, and how they are read."""

import json
import random
from pathlib import Path
from typing import Any

import yaml

from cluster.jobs import profile
from pipeline.config.keys import keys
from pipeline.config.parsing import to_dict
from pipeline.config.presets import preset
from pipeline.config.run_config import RunConfig
from pipeline.config.validation import check
from pipeline.data.class_names import described, read_synsets
from pipeline.storage.settings import load_config
from pipeline.tune.space_file import space_of_file
from tests.fuzz.mutations import VALUES, Files

SPACE = """
kernel.bandwidth_multiplier: {loguniform: [0.1, 10]}
condense.learning_rate: {loguniform: [0.03, 10], relative: true}
condense.batch_real: {choice: [64, 128]}
augment.strategy: {grid: [none, color_crop_cutout]}
kernel.scales: {uniform: [1, 5]}
"""
PROFILE = """
address: http://head:8265
python: /opt/venv/bin/python
upload: false
pip: [m3d-condense==0.1.0]
env: {A: "1"}
entrypoint_num_cpus: 1
entrypoint_memory: 1000000
entrypoint_resources: {head: 0.1}
metadata: {team: vision}
"""
ODD_YAML = (
    "&a [*a]",
    "{<<: {<<: {x: 1}}}",
    "2001-99-99",
    "0x" + "f" * 5000,
    "9" * 5000,
    "1" + ":1" * 3000,
    "!!binary =",
    "!!python/object:os.system x",
    "!!timestamp x",
    "!!int x",
    "!!float .",
    "!!set {a, b}",
    "!!omap [a]",
    "? [a]",
    "{[a]: b}",
    "[" * 200,
    "{a: " * 200,
    "- " * 3000,
    ".nan",
    ".inf",
    "-.inf",
    "1e999",
    "|\n  text",
    "\x00",
    "\ud7ff",
    "%YAML 9.9\n---\na",
    "--- a\n--- b",
    "'" + "x" * 5000 + "'",
)
"""Values at which parsers of YAML go wrong."""


def write_config(folder: Path) -> None:
    """Configuration files: complete ones and short ones."""
    for name, content in (
        ("default", to_dict(RunConfig())),
        ("cifar", to_dict(preset("cifar10_ipc1"))),
        ("record", {"config": to_dict(RunConfig())}),
        ("short", {"condense": {"iterations": 5}, "seed": 1, "data": {"classes": ["a", "b"]}}),
    ):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(content))


def read_config(folder: Path) -> None:
    """Loads a configuration and checks it, as every command does first."""
    config = load_config(str(folder / "config.json"))
    check(config)
    assert load_config_again(config) == config


def load_config_again(config: RunConfig) -> RunConfig:
    """The configuration after a round trip: what is stored must be read as it was."""
    from pipeline.config.parsing import from_dict

    return from_dict(json.loads(json.dumps(to_dict(config))), origin="again")


def invented_config(random: random.Random) -> Files:
    """Some known keys with any values, or a structure of no sense."""
    if random.random() < 0.1:
        depth = random.choice((10, 63, 65, 900, 5000, 200_000))
        text = random.choice(
            ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth, "9" * depth, "[1e999]", "NaN")
        )
        return {"config.json": text.encode()}
    values: dict[str, Any] = {}
    for key in random.sample(list(keys()), random.randrange(1, 5)):
        section, _, inner = key.rpartition(".")
        value = _any(random)
        if section and random.random() < 0.9:
            values.setdefault(section, {})[inner] = value
        else:
            values[key] = value
    return {"config.json": json.dumps(values).encode()}


def write_space(folder: Path) -> None:
    """A search space in YAML and in JSON."""
    (folder / "yaml").mkdir()
    (folder / "yaml" / "space.yaml").write_text(SPACE)
    (folder / "json").mkdir()
    (folder / "json" / "space.json").write_text(json.dumps(yaml.safe_load(SPACE)))


def read_space(folder: Path) -> None:
    """Reads a search space for a preset, and describes it as the record of a search does."""
    for name in ("space.yaml", "space.json"):
        if (folder / name).exists():
            space = space_of_file(str(folder / name), preset("cifar10_ipc1"))
            json.dumps(space.described())


def invented_space(random: random.Random) -> Files:
    """Entries of known keys with any bounds and values."""
    entries = []
    for key in random.sample([*keys(), "x", "condense"], random.randrange(1, 4)):
        kind = random.choice(("uniform", "loguniform", "choice", "grid", "x"))
        content = random.choice((json.dumps([_any(random), _any(random)]), random.choice(ODD_YAML)))
        entries.append(f"{key}: {{{kind}: {content}}}")
    if random.random() < 0.2:
        entries.append(random.choice(ODD_YAML))
    return {"space.yaml": "\n".join(entries).encode(errors="replace")}


def write_profile(folder: Path) -> None:
    """A profile of a cluster."""
    (folder / "profile").mkdir()
    (folder / "profile" / "profile.yaml").write_text(PROFILE)


def read_profile(folder: Path) -> None:
    """Reads a profile as ``python -m cluster submit`` does."""
    profile.read(str(folder / "profile.yaml"), {})


def invented_profile(random: random.Random) -> Files:
    """Known keys with any values."""
    names = (
        "address",
        "python",
        "upload",
        "pip",
        "env",
        "entrypoint_num_cpus",
        "entrypoint_memory",
        "entrypoint_resources",
        "metadata",
        "x",
    )
    lines = [
        f"{name}: {random.choice((json.dumps(_any(random)), random.choice(ODD_YAML)))}"
        for name in random.sample(names, random.randrange(1, 5))
    ]
    return {"profile.yaml": "\n".join(lines).encode(errors="replace")}


def write_synsets(folder: Path) -> None:
    """A file of WordNet ids with names."""
    (folder / "list").mkdir()
    (folder / "list" / "synsets.txt").write_text("n01440764 tench, Tinca tinca\nn01443537 goldfish\n")


def read_synsets_file(folder: Path) -> None:
    """Reads a list of WordNet ids, and looks names up in it."""
    synsets = read_synsets(str(folder / "synsets.txt"))
    described(["0", "1", "tench", "²", "9" * 30], None, synsets)


def _any(random: random.Random, depth: int = 2) -> Any:
    if depth and random.random() < 0.2:
        return [_any(random, depth - 1) for _ in range(random.randrange(4))]
    if depth and random.random() < 0.1:
        return {str(_any(random, 0))[:9]: _any(random, depth - 1) for _ in range(random.randrange(3))}
    return random.choice((*VALUES, float("nan"), float("inf"), 10**400, random.random(), random.randrange(1000)))
