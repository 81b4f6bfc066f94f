"""Evaluation protocols by name: every knob of training a network on a condensed set."""

from dataclasses import replace

from m3d.config import Augment, Evaluate, Train


def idc() -> Train:
    """IDC's protocol, used by M3D and DANCE: hard labels, one geometric operation per image, CutMix at 0.5.

    Source: Kim et al., "Dataset condensation via efficient synthetic-data parameterization" (2022). The
    published code reports the best epoch by test accuracy; here it is always the last one. This is the
    protocol of 28 and 32 px; IDC trains otherwise on ImageNet at 224 px.
    """
    return Train(
        epochs=1000,
        batch=64,
        milestones=(2 / 3, 5 / 6),
        decay=0.2,
        augment=Augment(strategy="color_crop_flip_scale_rotate"),
        cutmix_probability=0.5,
    )


def dm() -> Train:
    """DM's protocol: batch 256, one learning-rate drop at half time, one DSA operation per image, no CutMix.

    Source: Zhao and Bilen, "Dataset condensation with distribution matching" (2023). The published code
    draws the operation per batch; per image is the same in the mean.
    """
    return Train(
        epochs=1000,
        batch=256,
        milestones=(0.5,),
        decay=0.1,
        augment=Augment(strategy="color_crop_cutout_flip_scale_rotate", pick="any"),
    )


PROTOCOLS = {"idc": idc, "dm": dm}


def training_of(config: Evaluate) -> Train:
    """The training that an evaluation asks for: its protocol with its own epochs and flip."""
    train = PROTOCOLS[config.protocol]()
    if config.epochs is not None:
        train = replace(train, epochs=config.epochs)
    if not config.flip:
        train = replace(train, augment=train.augment.without("flip"))
    return train
