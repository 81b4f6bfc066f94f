"""Condensed sets, files of peers, class shards, networks, runs and searches, and how they are read."""

import io
import json
import pickle
import random
import re
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from m3d import CondenseState
from m3d.encoders import build
from m3d.seeding import generator
from pipeline import storage
from pipeline.condense.manifest import new_record
from pipeline.config.run_config import Data
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.evaluate.results import write_rows
from pipeline.evaluate.resume import PartialEvaluation
from pipeline.formats.condense_checkpoint import read_checkpoint, write_checkpoint
from pipeline.formats.condensed_reader import load_condensed
from pipeline.formats.peers import FORMATS, parse
from pipeline.formats.peers import read as read_peer
from pipeline.formats.run_folder import RunFolder
from pipeline.formats.snapshots import read_snapshots, write_snapshot
from pipeline.pretrain.reader import read_experts, trained_network
from pipeline.pretrain.store import Checkpoint, ExpertStore, describe, identity_of, settings_of
from pipeline.storage.tensors import read_tensors
from pipeline.tune.results import trials_table
from pipeline.tune.search_folder import SearchFolder
from pipeline.tune.trial_store import TrialFolder
from pipeline.workflow.report import report
from pipeline.workflow.verify import verify
from tests.fuzz.mutations import NUMBERS, TEXTS, Files
from tests.pipeline.evaluate.test_stage import condensed_run
from tests.pipeline.support.condensed_sets import write_set
from tests.pipeline.support.peers import IMAGES, LABELS, MEAN, NORMALISED, STD
from tests.pipeline.support.pretraining import config_of
from tests.pipeline.support.rows import measured_row, network_score
from tests.pipeline.support.runs import placement_of, prepared, small_config
from tests.pipeline.support.searches import example_search

EXPERTS = "experts/convnet1/manifest.json"
ELSEWHERE = "/m3d-fuzz/class-shards"
"""Where runs say that their class shards are; the folder of a test would make every input another one."""


def write_peers(folder: Path) -> None:
    """A file of every format, in the form of the installed torch and in that of old versions."""
    for name, peer in FORMATS.items():
        images = NORMALISED if peer.moments else IMAGES
        (folder / name).mkdir()
        peer.write(str(folder / name / "images.pt"), images, LABELS)
        if name == "mtt":
            continue
        (folder / f"{name}-old").mkdir()
        content: Any = {"data": [[images, LABELS]], "accs": {"a": [1.5]}} if name == "dc" else [images, LABELS]
        torch.save(content, folder / f"{name}-old" / "images.pt", _use_new_zipfile_serialization=False)
        (folder / f"{name}-lists").mkdir()
        labels = [[0.5, 0.5]] * 3 + [[0.1, 0.9]]
        torch.save([images.half(), labels], folder / f"{name}-lists" / "images.pt")


def read_peers(folder: Path) -> None:
    """Reads a file in all formats; the last error counts."""
    errors: list[Exception] = []
    for name in FORMATS:
        try:
            file = parse(f"{folder / 'images.pt'}:{name}")
            read_peer(file, shape=(3, 8, 8), classes=2, moments=(MEAN, STD))
        except Exception as error:
            if type(error).__name__ != "UserError":
                raise
            errors.append(error)
    if len(errors) == len(FORMATS):
        raise errors[0]


def invented_peer(random: random.Random) -> Files:
    """An archive of torch with an invented pickle: sizes, types and calls of all kinds around a true storage."""
    number = lambda: random.choice(NUMBERS)  # noqa: E731
    kinds = ("Float", "Double", "Long", "Byte", "Half", "BFloat16", "ComplexFloat", "QUInt8", "Untyped")
    name = random.choice(
        ("_rebuild_tensor_v2", "_rebuild_tensor", "_rebuild_sparse_tensor", "_rebuild_qtensor", "_rebuild_parameter")
    )

    def tensor(key: str, count: int, size: tuple[int, ...]) -> Any:
        if random.random() < 0.3:
            size = tuple(random.choice((each, number())) for each in size)
        stride = tuple(random.choice((0, 1, 1, number())) for _ in size)
        storage_id = (
            "storage",
            _Global(f"torch {random.choice(kinds)}Storage"),
            key,
            "cpu",
            random.choice((count, number())),
        )
        return _Call(
            _Global(f"torch._utils {random.choice(('_rebuild_tensor_v2', name))}"),
            (
                _Persistent(storage_id),
                random.choice((0, number())),
                size,
                stride,
                False,
                _Call(_Global("collections OrderedDict"), ()),
            ),
        )

    odd = (
        None,
        number(),
        random.choice(TEXTS),
        [],
        (),
        {},
        [number()] * 4,
        [[0.5, float("nan")]] * 4,
        _Call(
            _Global(random.choice(("builtins bytearray", "torch Size", "os system", "numpy dtype", "_codecs encode"))),
            (random.choice(("f8", 2**40, "V2147483647")),),
        ),
    )
    images = tensor("0", 768, (4, 3, 8, 8))
    labels = random.choice((tensor("1", 4, (4,)), random.choice(odd)))
    content: Any = random.choice(
        ([images, labels], (images, labels), {"data": [[images, labels]]}, images, random.choice(odd))
    )
    written = io.BytesIO()
    with zipfile.ZipFile(
        written, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    ) as archive:
        archive.writestr("a/data.pkl", _pickled(content))
        archive.writestr("a/version", "3\n")
        archive.writestr("a/byteorder", random.choice(("little", "big")))
        archive.writestr("a/data/0", IMAGES.numpy().tobytes()[: random.choice((None, 10))])
        archive.writestr("a/data/1", LABELS.numpy().tobytes())
    return {"images.pt": written.getvalue()}


def write_condensed(folder: Path) -> None:
    """Condensed sets of one and of two shards."""
    write_set(folder / "two")
    write_set(folder / "one", ((0, 1, 2),))


def read_condensed(folder: Path) -> None:
    """Loads a condensed set, and verifies it."""
    verify(str(folder))
    load_condensed(str(folder))


def write_class_shards(folder: Path) -> None:
    """Class shards of four digits."""
    dataset = prepared(small_config(), folder.parent / "prepared")
    shutil.copytree(dataset.folder, folder / "digits")


def read_class_shards(folder: Path) -> None:
    """Reads everything that a stage reads of class shards."""
    dataset = PreparedDataset(str(folder), Data(validation_fraction=0.2))
    for label in range(min(4, len(dataset.classes))):
        dataset.train(label)
        dataset.train_parts(label)
    dataset.test_set("test")
    dataset.test_set("validation")


def write_experts(folder: Path) -> None:
    """Networks that ``pretrain`` left: untrained ones, as they are as good for reading."""
    config = config_of()
    dataset = prepared(config, folder.parent / "prepared")
    home = RunFolder.at(folder / "run")
    settings = settings_of(config, dataset)
    store = ExpertStore(home, "convnet1", identity_of(settings))
    weights = build("convnet1", channels=1, image_size=8, classes=4, generator=generator(0, "x")).state_dict()
    snapshots = [store.save_snapshot(0, epoch, weights) for epoch in (0, 4)]
    checkpoint = Checkpoint(seed=0, epoch=4, tensors=weights, losses=[1.0], snapshots=snapshots, precision="float32")
    store.save_checkpoint(checkpoint)
    store.finish(checkpoint, compiled=False)
    store.publish(1, describe(config, dataset, settings))
    store.save_checkpoint(checkpoint)


def read_experts_of(folder: Path) -> None:
    """Reads the networks of a run as ``evaluate``, ``pretrain`` and ``verify`` do."""
    home = RunFolder.at(folder)
    for identity in re.findall(rb'"identity": ?"([0-9a-f]{32})"', (folder / EXPERTS).read_bytes())[:1]:
        store = ExpertStore(home, "convnet1", identity.decode())
        store.load_checkpoint(0)
        store.finished(0)
    manifest = read_experts(home, "convnet1")
    if manifest is not None:
        trained_network(home, manifest)


def write_checkpoints(folder: Path) -> None:
    """A checkpoint of a condensation."""
    (folder / "group").mkdir()
    pixels = torch.rand(2, 1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    state = CondenseState(
        pixels_KSCHW=pixels, momentum_KSCHW=pixels / 2, iteration=7, broken_K=torch.zeros(2, dtype=torch.bool)
    )
    write_checkpoint(str(folder / "group" / "a.safetensors"), state, "identity")


def write_snapshots(folder: Path) -> None:
    """A snapshot of a run of two groups."""
    for group in (0, 1):
        images = torch.full((1, 2, 3, 8, 8), 100 * group, dtype=torch.uint8)
        write_snapshot(str(folder / "run"), group, 5, images, "identity")


def read_snapshots_of(folder: Path) -> None:
    """Reads a snapshot."""
    read_snapshots(str(folder), ((1,), (0,)), "identity", classes=2)


def read_checkpoint_of(folder: Path) -> None:
    """Reads a checkpoint in every way in which one is read."""
    path = str(folder / "a.safetensors")
    read_tensors(path)
    read_checkpoint(path, "identity")


def write_run(folder: Path) -> None:
    """A finished run, small enough to be read in a second."""
    config = small_config(iterations=2)
    made = folder.parent / "made"
    shutil.rmtree(made, ignore_errors=True)
    dataset = condensed_run(config, made)
    home = RunFolder.at(folder / "run")
    record = new_record(config, dataset, placement_of(config))
    record["resolved"]["class_shards"] = ELSEWHERE
    home.write_record(record)
    matrix = [[3, 1, 0, 0], [0, 4, 0, 0], [0, 0, 4, 0], [0, 0, 2, 2]]
    score = network_score(*matrix, best=70.0)
    write_rows(home, [measured_row(config, name, {0: score, 1: score}, classes=4) for name in ("condensed", "random")])
    PartialEvaluation(home).add("key", {0: score})
    shutil.copytree(made / "condensed", folder / "run" / "condensed")
    lines = [{"iteration": i, "group": 0, "loss": {str(label): 1 / i for label in range(4)}} for i in (1, 2)]
    (folder / "run" / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))


def read_run(folder: Path) -> None:
    """Verifies and reports a run."""
    home = RunFolder.at(folder)
    verify(str(folder))
    home.read_config()
    PartialEvaluation(home)
    report(home)


def write_search(folder: Path) -> None:
    """The records of a search."""
    result, _ = example_search()
    home = SearchFolder.at(str(folder / "search"))
    for trial in result.trials:
        TrialFolder(home.trials, trial.key).write(trial)
    storage.write_json(home.clock, {"seconds": 3, "proposals": 7, "records": 7})


def read_search(folder: Path) -> None:
    """Reads the records of a search as its resumption does."""
    home = SearchFolder.at(str(folder))
    home.seconds()
    home.read_record()
    result, _ = example_search()
    stored = [TrialFolder(home.trials, trial.key).read() for trial in result.trials]
    trials = tuple(
        replace(own, key=trial.key) for own, trial in zip(stored, result.trials, strict=True) if own is not None
    )
    if any(trial.key == result.start_key for trial in trials):
        trials_table(replace(result, trials=trials))


class _Global:
    def __init__(self, name: str) -> None:
        self.name = name


class _Call:
    def __init__(self, function: _Global, arguments: tuple[Any, ...]) -> None:
        self.function, self.arguments = function, arguments


class _Persistent:
    def __init__(self, identity: Any) -> None:
        self.identity = identity


def _pickled(value: Any) -> bytes:
    """A pickle of protocol 2, written by hand, so that it may name anything."""
    return b"\x80\x02" + _written(value) + b"."


def _written(value: Any) -> bytes:
    if isinstance(value, _Global):
        return b"c" + value.name.replace(" ", "\n").encode() + b"\n"
    if isinstance(value, _Call):
        return _written(value.function) + _written(value.arguments) + b"R"
    if isinstance(value, _Persistent):
        return _written(value.identity) + b"Q"
    if isinstance(value, tuple):
        return b"(" + b"".join(map(_written, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(_written, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(_written(key) + _written(item) for key, item in value.items()) + b"u"
    return pickle.dumps(value, protocol=2)[2:-1]
