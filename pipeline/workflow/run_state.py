"""What is finished of a run, and which class shards it uses: the only place that answers either question."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline import storage
from pipeline.config.parsing import from_dict
from pipeline.config.run_config import RunConfig
from pipeline.data.prepare import prepare
from pipeline.data.prepared_dataset import PreparedDataset, found_class_shards, is_within_reach, key_of, left_out_shards
from pipeline.errors import UserError
from pipeline.evaluate.results import is_evaluated
from pipeline.evaluate.rows import Origins
from pipeline.evaluate.soft_labels import without_teacher
from pipeline.formats.arrow_schema import MANIFEST
from pipeline.formats.condensed_reader import condensed_folder, read_manifest
from pipeline.formats.run_folder import RunFolder
from pipeline.observability.progress import say
from pipeline.pretrain.reader import read_experts, teacher_checksum
from pipeline.storage.documents import SEAL
from pipeline.storage.local.local_files import require_no_link
from pipeline.storage.settings import adopt, repeat
from pipeline.workflow.report import is_reported

SOURCE = ("data.path=", "data.cache=", "data.synsets=")
"""How the settings begin without which class shards cannot be found or made."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A configuration and the folder that the user gave for it. Reads the folder at every question and caches nothing."""

    config: RunConfig
    folder: RunFolder
    is_adopted: bool = field(default=False, compare=False)
    """Whether the configuration is that of the folder, which may be somebody else's, instead of the command line's."""
    left_out: tuple[str, ...] = field(default=(), compare=False)
    """Places that the folder names and the command line does not, as ``pipeline.storage.settings.adopt`` lists them."""

    @classmethod
    def at(cls, path: str, config: RunConfig) -> "Run":
        """The run of a configuration in a folder that the user names, local or by URL."""
        return cls(config=config, folder=RunFolder.at(path))

    def is_finished(self) -> bool:
        """Whether the condensed set, every row of the evaluation and the report exist.

        Raises:
            UserError: the folder contains another run, or a damaged document.
        """
        return self.is_condensed() and self.is_evaluated() and is_reported(self.folder)

    def is_condensed(self) -> bool:
        """Whether the folder contains the finished condensed set of this configuration.

        Raises:
            UserError: the folder contains another run, or a damaged document.
        """
        record = self.folder.read_record()
        if record is None:
            return False
        self.folder.require_same_run(record, self.config)
        return self.folder.is_committed()

    def is_evaluated(self) -> bool:
        """Whether evaluation.json has every row that the configuration asks for, of the stored condensed set.

        Raises:
            UserError: a document is damaged.
        """
        condensed = self.folder.read_manifest()
        origins: Origins = {"condensed_set": condensed[SEAL]}
        if self.config.evaluate.labels == "soft":
            manifest = read_experts(self.folder, self.config.pretrain.architecture)
            if manifest is not None:  # a teacher that was deleted since does not make a finished row unfinished
                origins["teacher"] = teacher_checksum(manifest)
        return is_evaluated(self.config, self.folder, origins, len(condensed["classes"]))

    def require_no_other(self) -> None:
        """Raises UserError if the folder contains a run of other settings, naming them."""
        record = self.folder.read_record()
        if record is not None:
            self.folder.require_same_run(record, self.config)

    def require_teacher(self) -> None:
        """Raises UserError if soft labels are asked for and ``pretrain`` has not trained the teacher."""
        architecture = self.config.pretrain.architecture
        if self.config.evaluate.labels == "soft" and read_experts(self.folder, architecture) is None:
            raise without_teacher(self.config, self.folder)

    def class_shards(self, *, condensing: bool = False) -> PreparedDataset:
        """The class shards that the run began with, or those of its source if it is new. Prepares them if they are missing.

        Args:
            condensing: refuse classes with fewer images than condensing needs, before any image is decoded.

        Raises:
            UserError: the shards are missing and the source has changed, or the source cannot be prepared.
        """
        shards = self._recorded_shards()
        if shards is not None:
            place = found_class_shards(shards, self.folder, self.config, trusted=not self.is_adopted)
            if place is not None:
                return PreparedDataset(place, self.config.data)
            if self.is_adopted and (left_out := left_out_shards(shards, self.folder, self.left_out)):
                raise UserError(f"{self.folder}: its class shards are in {shards}; {repeat(left_out)}")
            if not is_within_reach(shards, self.folder, self.config) and self.config.data.cache is None:
                cache = shlex.quote(shards.rpartition("/")[0])
                raise UserError(
                    f"{self.folder}: its class shards are in {shards}; add --set data.cache={cache}, or "
                    f"--set data.cache={shlex.quote(self.folder.class_shards)} to prepare them again"
                )
        if any(setting.startswith(SOURCE) for setting in self.left_out):
            raise UserError(f"{self.folder}: contains no class shards of the real images; {repeat(self.left_out)}")
        if self.is_adopted:
            require_no_link(self.folder.class_shards)
        try:
            dataset = prepare(self.config, self.folder, condensing=condensing)
        except UserError as error:
            if shards is None:
                raise
            raise UserError(
                f"{error} (the run's class shards are missing as well, in {shards} and below the run)"
            ) from None
        if shards is not None and dataset.key != key_of(shards):
            raise UserError(
                f"{self.folder}: the source, or how it is read, has changed since this run began, and the run's class shards are gone; "
                "choose another --out"
            )
        return dataset

    def has_class_shards(self) -> bool:
        """Whether the class shards of a run are in its folder, or in ``data.cache`` of this command."""
        shards = self._recorded_shards()
        return shards is not None and found_class_shards(shards, self.folder, self.config) is not None

    def found_class_shards(self) -> PreparedDataset | None:
        """The class shards that the run began with, if they are there and can be opened. Prepares and fetches nothing."""
        recorded = self._recorded_shards()
        if recorded is None:
            return None
        place = found_class_shards(recorded, self.folder, self.config, trusted=not self.is_adopted)
        if place is None:
            return None
        try:
            if self.is_adopted:
                require_no_link(self.folder.class_shards)
            return PreparedDataset(place, self.config.data)
        except UserError as error:
            say(f"class shards: {error}")
            return None

    def why_no_class_shards(self) -> str:
        """Why ``found_class_shards`` returned nothing, for a page."""
        recorded = self._recorded_shards()
        left_out = left_out_shards(recorded, self.folder, self.left_out) if recorded is not None else ()
        caches = [setting for setting in left_out if setting.startswith("data.cache=")]
        text = "Real images are not shown: the class shards of the run were not found in its folder."
        return f"{text} To use those elsewhere, add --set data.cache=FOLDER to `report`." if caches else text

    def _recorded_shards(self) -> str | None:
        record = self.folder.read_record()
        return None if record is None else record["resolved"]["class_shards"]

    def require_harmless(self) -> None:
        """Raises UserError if the run was on a Ray cluster and the command line names none, or has links for folders."""
        for path in (self.folder.networks, self.folder.baselines, self.folder.matrices):
            require_no_link(path)
        if any(setting.startswith("resources.address=") for setting in self.left_out):
            raise UserError(
                f"{self.folder}: ran on a Ray cluster; {repeat(self.left_out)}, or give resources.address=local for this machine"
            )


def stored_run(path: str, changes: Sequence[str] = ()) -> Run:
    """The run that evaluation.json belongs to, with the configuration that is stored in it, as far as it is trusted.

    Args:
        path: the folder of a run, the condensed set in one, or a condensed set alone.
        changes: ``KEY=VALUE`` of the command line. The storage settings that result are active.

    Raises:
        UserError: the folder is none of them, or its condensed set is not finished.
    """
    folder = RunFolder.at(path)
    if folder.read_record() is None and storage.exists(folder.file(MANIFEST)):
        parent, _, name = folder.path.rpartition("/")
        if name != "condensed" or RunFolder(parent).read_record() is None:
            return _adopted(_config_of_set(folder), folder, changes)
        folder = RunFolder(parent)
    config = folder.read_config()
    if not folder.is_committed():
        raise UserError(
            f"{folder}: the condensed set is not finished; finish it with `python -m pipeline condense` and the run's settings"
        )
    return _adopted(config, folder, changes)


def _adopted(config: RunConfig, folder: RunFolder, changes: Sequence[str]) -> Run:
    adopted = adopt(config, changes)
    return Run(config=adopted.config, folder=folder, is_adopted=True, left_out=adopted.left_out)


def _config_of_set(folder: RunFolder) -> RunConfig:
    origin, stored = folder.file(MANIFEST), read_manifest(folder.path).get("config")
    if not isinstance(stored, dict):
        raise UserError(
            f"{origin}: does not contain the settings of the condensed set, so the set cannot be evaluated; if it was imported, "
            "import it again with --like RUN, a run on the same data"
        )
    return from_dict(stored, origin=origin)


def require_same_classes(folder: RunFolder, dataset: PreparedDataset) -> None:
    """Raises UserError if the condensed set and the class shards have other classes or shapes of images."""
    manifest = read_manifest(condensed_folder(folder.path))
    condensed, prepared = ([entry["name"] for entry in classes] for classes in (manifest["classes"], dataset.classes))
    if condensed != prepared or list(manifest["shape"]) != list(dataset.manifest["shape"]):
        raise UserError(
            f"{folder}: the condensed set has {len(condensed)} classes of shape {list(manifest['shape'])}, the class shards in "
            f"{dataset.folder} have {len(prepared)} of shape {list(dataset.manifest['shape'])}, or the class names differ; "
            "give the data that the set was condensed from"
        )
