"""The accuracies on the page: bars with error bars, every number, and a sentence that says what they mean."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.evaluate.dd_ranking import RankingScore, by_seed, scores
from pipeline.evaluate.intervals import paired
from pipeline.evaluate.rows import EvaluationRow, is_comparable
from pipeline.evaluate.tables import NONE, described_protocol, deviation, span

EXPLAINED = {
    "condensed": "the condensed images",
    "random": "as many full-size real images per class, drawn again for each seed",
    "mosaic": "the mosaics of real images from which the condensation started, decoded the same way",
    "herding": "real images selected by herding, in the features of a trained network",
    "k_center": "real images selected by k-center, in the same features",
    "class_mean": "the mean image of each class",
    "whole": "all training images, under a schedule of its own",
}
"""What the networks of a row are trained on, by the name of the set."""
BASELINES = ("random", "mosaic", "herding", "k_center", "class_mean")
"""Sets that the condensed set should beat."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A row as a bar, in percent of the scale."""

    set: str
    ours: bool
    text: str
    """The accuracy in words, such as ``61.5 ± 1.2 %``."""
    width: float
    whisker: tuple[float, float] | None
    """Left end and width of the 95 % interval; None for one network."""
    dots: Sequence[float]
    """The networks."""


@dataclass(frozen=True, kw_only=True)
class Bars:
    """The rows of one architecture and protocol."""

    title: str
    bars: Sequence[Bar]
    top: float
    """Accuracy at the right end, in percent."""
    chance: float
    """Place of the accuracy of guessing."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row in the table of all numbers."""

    ours: bool
    cells: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the accuracies say."""

    sentences: Sequence[str]
    good: bool
    """Whether the condensed set beats as many random images beyond doubt."""


@dataclass(frozen=True, kw_only=True)
class Accuracies:
    """The section of the accuracies."""

    verdict: Verdict
    groups: Sequence[Bars]
    explained: Sequence[tuple[str, str]]
    columns: Sequence[str]
    lines: Sequence[Line]
    notes: Sequence[str]
    """Why cells are empty."""
    score_lines: Sequence[Sequence[str]]
    score_notes: Sequence[str]


def accuracies(rows: Sequence[EvaluationRow], classes: int) -> Accuracies:
    """Returns the section.

    Args:
        rows: of evaluation.json, of any version.
        classes: number of classes, from which the accuracy of guessing follows.
    """
    chance = 100 / classes
    columns, lines, notes = _table(rows)
    compared = [score for score in scores(rows) if score["ior"] is not None]
    sets = dict.fromkeys(row["set"] for row in rows)
    return Accuracies(
        verdict=verdict(rows, classes),
        groups=[bars_of(title, part, chance=chance) for title, part in _grouped(rows).items()],
        explained=[(name, EXPLAINED[name]) for name in sets if name in EXPLAINED],
        columns=columns,
        lines=lines,
        notes=notes,
        score_lines=[_score_cells(score) for score in compared],
        score_notes=_score_notes(compared),
    )


def verdict(rows: Sequence[EvaluationRow], classes: int) -> Verdict:
    """Returns what the first condensed row says beside its baselines, also if it says nothing."""
    ours = next((row for row in rows if row["set"] == "condensed"), None)
    if ours is None:
        return Verdict(
            sentences=["The condensed set is not evaluated yet: run `python -m pipeline evaluate`."], good=False
        )
    alike = [row for row in rows if row["set"] != "condensed" and _same(row, ours)]
    by_name = {row["set"]: row for row in alike}
    sentences = [f"Networks trained on the condensed set alone reach {_reached(ours)}."]
    random, good = by_name.get("random"), False
    if random is None:
        sentences.append("It was not compared with random real images, so nothing says whether it is useful.")
    else:
        sentence, good = _against(ours, random)
        sentences.append(sentence)
    best = max((by_name[name] for name in BASELINES if name in by_name), key=lambda row: row["mean"], default=None)
    if best is not None and best["set"] != "random" and best["mean"] > ours["mean"]:
        sentences.append(f"The baseline {best['set']} reaches more: {best['mean']:.1f} %.")
        good = False
    chance = 100 / classes
    if ours["mean"] <= chance + min(5.0, chance / 2):
        sentences.append(f"Guessing would reach {chance:.3g} %.")
        good = False
    whole = next((row for row in rows if row["set"] == "whole" and _tested_alike(row, ours)), None)
    if whole is not None:
        sentences.append(f"All training images reach {whole['mean']:.1f} %.")
    return Verdict(sentences=sentences, good=good)


def _same(row: EvaluationRow, ours: EvaluationRow) -> bool:
    keys = ("architecture", "protocol", "on", "augmentation", "labels")
    return all(row.get(key) == ours.get(key) for key in keys) and is_comparable(row, ours)


def _tested_alike(row: EvaluationRow, ours: EvaluationRow) -> bool:
    return all(row.get(key) == ours.get(key) for key in ("architecture", "on"))


def _reached(row: EvaluationRow) -> str:
    interval, count = row.get("interval95"), _networks(row)
    if interval:
        return f"{row['mean']:.1f} % ({count} networks, 95 % interval {span(interval)})"
    return f"{row['mean']:.1f} %" + (" (one network, so the spread is unknown)" if count == 1 else "")


def _against(ours: EvaluationRow, other: EvaluationRow) -> tuple[str, bool]:
    """The comparison with random real images in words, and whether ours is better beyond doubt."""
    difference = paired(by_seed(ours), by_seed(other))
    gap = ours["mean"] - other["mean"] if difference is None else difference.mean
    theirs = f"as many random real images ({other['mean']:.1f} %)"
    if abs(gap) >= 0.05:
        text = f"That is {abs(gap):.1f} points {'above' if gap > 0 else 'below'} {theirs}"
    else:
        text = f"Networks trained on {theirs} reach the same"
    if difference is None or difference.interval is None:
        return f"{text}; single networks cannot tell whether that is chance, evaluate with --seeds 5.", False
    interval = f"95 % interval of the difference {span(difference.interval)}"
    if difference.interval[0] > 0:
        return f"{text}: the set is better ({interval}).", True
    if difference.interval[1] < 0:
        return f"{text}: the set is worse than real images ({interval}).", False
    return f"{text}. It may be chance ({interval}): these networks do not show that the set is of use.", False


def _networks(row: EvaluationRow) -> int:
    return len(row.get("seeds") or row.get("accuracies") or ())


def _grouped(rows: Iterable[EvaluationRow]) -> dict[str, list[EvaluationRow]]:
    groups: dict[str, list[EvaluationRow]] = {}
    for row in rows:
        if row["set"] == "whole":  # a schedule of its own; it stands beside every protocol of its architecture
            continue
        groups.setdefault(_title(row), []).append(row)
    for row in rows:
        for title in groups if row["set"] == "whole" else ():
            if _tested_alike(row, groups[title][0]):
                groups[title].append(row)
    return groups


def _title(row: EvaluationRow) -> str:
    return f"{row.get('architecture') or 'network'}, protocol {_protocol(row)}, {row.get('on', 'test')} images"


def _protocol(row: EvaluationRow) -> str:
    return described_protocol({**row, "protocol": row.get("protocol") or "unknown"})


def bars_of(title: str, rows: Sequence[EvaluationRow], *, chance: float, ours: str = "condensed") -> Bars:
    """Returns rows as bars on one scale.

    Args:
        title: of the group.
        rows: at least one.
        chance: accuracy of guessing, in percent.
        ours: name of the set that is emphasised.
    """
    highest = max(max([row["mean"], *(row.get("interval95") or ()), *row.get("accuracies", ())]) for row in rows)
    top = next(end for end in (5, 10, 20, 40, 60, 80, 100) if end >= min(100.0, highest))

    def place(value: float) -> float:
        return round(100 * min(max(value, 0.0), top) / top, 2)

    def bar(row: EvaluationRow) -> Bar:
        interval = row.get("interval95")
        ends = (place(interval[0]), place(interval[1])) if interval else None
        return Bar(
            set=row["set"],
            ours=row["set"] == ours,
            text=f"{row['mean']:.1f}" + (f" ± {row['std']:.1f} %" if deviation(row) else " %, one network"),
            width=place(row["mean"]),
            whisker=None if ends is None else (ends[0], round(ends[1] - ends[0], 2)),
            dots=[place(value) for value in row.get("accuracies", ())],
        )

    return Bars(title=title, bars=[bar(row) for row in rows], top=top, chance=place(chance))


def _table(rows: Sequence[EvaluationRow]) -> tuple[list[str], list[Line], list[str]]:
    best = any("best_epoch_compatibility" in row for row in rows)
    columns = ["set", "architecture", "protocol", "on", "epochs", "mean, %", "std", "95 % interval", "networks"]
    columns += ["best test epoch, %"] if best else []
    lines = [
        Line(
            ours=row["set"] == "condensed",
            cells=[
                row["set"],
                row.get("architecture", ""),
                _protocol(row),
                row.get("on", "test"),
                str(row.get("epochs", "")),
                f"{row['mean']:.1f}",
                deviation(row) or NONE,
                span(row.get("interval95")) or NONE,
                str(_networks(row)),
                *([_best(row)] if best else []),
            ],
        )
        for row in rows
    ]
    notes = []
    if any(not deviation(row) for row in rows):
        notes.append("-: one network shows no spread; evaluate with --seeds 5.")
    if best:
        notes.append(
            "The best test epoch is chosen on the test images, as some papers do; no other number here uses it."
        )
    return columns, lines, notes


def _best(row: EvaluationRow) -> str:
    best = row.get("best_epoch_compatibility")
    return f"{best['mean']:.1f}" if best else NONE


def _score_cells(score: RankingScore) -> list[str]:
    return [
        score["architecture"],
        described_protocol(score),
        _fraction(score["ior"]),
        span(score["ior_interval95"], 3) or NONE,
        _fraction(score["hlr"]),
        _fraction(score["lrs"]),
    ]


def _score_notes(compared: Sequence[RankingScore]) -> list[str]:
    notes = []
    if any(score["ior_interval95"] is None for score in compared):
        notes.append("The interval needs two networks with the same seeds.")
    if any(score["hlr"] is None for score in compared):
        notes.append("HLR and LRS need the accuracy of all training images: run `python -m pipeline pretrain`.")
    return notes


def _fraction(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"
