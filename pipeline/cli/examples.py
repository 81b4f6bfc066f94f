"""Examples that the help of every command ends with, as words after the program's name."""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "run": (
        "run --preset digits_ipc1 --out runs/demo",
        "run --preset photos_ipc1 --data photos --out runs/photos",
        "run --config photos.yaml --out runs/photos",
        "run --preset cifar10_ipc10 --data cifar --set data.source=parquet --out runs/cifar",
    ),
    "prepare": (
        "prepare --preset photos_ipc1 --data photos --look",
        "prepare --preset photos_ipc1 --data photos --out runs/photos",
    ),
    "pretrain": ("pretrain --preset digits_ipc1 --out runs/demo",),
    "condense": ("condense --preset digits_ipc10 --out runs/ten",),
    "evaluate": (
        "evaluate runs/demo --seeds 5",
        "evaluate runs/demo --architectures convnet3,mlp --sets condensed,random",
        "evaluate shared/condensed --data photos --set evaluate.epochs=300",
    ),
    "compare": (
        "compare runs/demo runs/other --seeds 5",
        "compare runs/demo other.pt:idc:factor=2 --out runs/compared",
    ),
    "report": ("report runs/demo",),
    "verify": ("verify runs/demo",),
    "export": (
        "export runs/demo --to hub --licence cc-by-4.0 --out exports/hub",
        "export runs/demo --to imagefolder --views stored --out exports/images",
    ),
    "import": (
        "import exports/hub --from hub --out sets/digits",
        "import data.pt --from idc --like runs/demo --factor 2 --out sets/theirs",
    ),
    "plan": (
        "plan --preset digits_ipc10",
        "plan --preset cifar10_ipc50 --data cifar --set data.source=parquet --gpus 4",
    ),
    "tune": (
        "tune --preset cifar10_ipc1 --data cifar --set data.source=parquet --trials 30 --time-budget 2h --out runs/search",
    ),
    "show-config": (
        "show-config --preset cifar10_ipc10",
        "show-config --config runs/demo/config.json --set condense.iterations=300",
    ),
    "presets": ("presets",),
    "init": (
        "init photos",
        "init photos --images-per-class 10 --out photos.yaml",
    ),
}
"""By command."""
FIRST_STEPS = (
    "run --preset digits_ipc1 --out runs/demo",
    "init photos",
    "run --config photos.yaml --out runs/photos",
    "presets",
    "evaluate runs/demo --architectures convnet3,mlp --seeds 5",
    "compare runs/demo other.pt:idc:factor=2",
    "tune --preset cifar10_ipc1 --data DIR --trials 30 --time-budget 2h --out runs/search",
    "show-config --preset cifar10_ipc10",
)
"""Examples in the help of the program itself."""


def shown(examples: tuple[str, ...], program: str) -> str:
    """Returns the examples as the end of a help text.

    Args:
        examples: words after the program's name.
        program: name under which the program was started.
    """
    title = "example" if len(examples) == 1 else "examples"
    return "\n".join([f"{title}:", *(f"  {program} {words}" for words in examples)])
