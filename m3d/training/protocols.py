"""Evaluation protocols by name: every setting of training a network on a condensed set."""

from dataclasses import replace

from m3d.config import Augment
from m3d.training.settings import Evaluate, Train


def idc() -> Train:
    """IDC's protocol, used by M3D and DANCE: hard labels, one geometric operation per image, CutMix at 0.5.

    Source: Kim et al., "Dataset condensation via efficient synthetic-data parameterization" (2022). The published code
    reports the best epoch by test accuracy; here it is always the last one. This protocol is for 28 and 32 px; see
    ``imagenet`` for 224 px.
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
    """DM's protocol: batch 256, one drop of the learning rate after half the epochs, one DSA operation per image, no CutMix.

    Source: Zhao and Bilen, "Dataset condensation with distribution matching" (2023). The published code draws the
    operation per batch; drawing it per image is the same on average.
    """
    return Train(
        epochs=1000,
        batch=256,
        milestones=(0.5,),
        decay=0.1,
        augment=Augment(strategy="color_crop_cutout_flip_scale_rotate", pick="any"),
    )


def imagenet() -> Train:
    """IDC's schedule for ImageNet-10 at 224 px: CutMix in every step, 1000 epochs; see also ``imagenet_epochs``.

    Source: Kim et al. (2022), published code. The code augments by a random resized crop of at least half the area,
    flips, colour jitter of 0.4 and PCA lighting; here they are replaced by the operations of ``idc`` at its strengths.
    """
    return replace(idc(), cutmix_probability=1.0)


def imagenet100() -> Train:
    """IDC's schedule for ImageNet-100: ``imagenet`` with two thirds of the epochs, rate 0.1, weight decay 1e-4, batch 128."""
    return replace(imagenet(), epochs=667, batch=128, learning_rate=0.1, weight_decay=1e-4)


def imagenet_epochs(views: int, classes: int) -> int:
    """Epochs of IDC on ImageNet: more of them for fewer decoded images per class.

    Args:
        views: decoded images per class: stored images x factor**2.
        classes: of the subset; from 100 classes up, two thirds of the epochs.

    Source: Kim et al. (2022), published code.
    """
    table = ((1, 3000), (10, 2000), (50, 1500), (200, 1000), (500, 500))
    epochs = next((epochs for most, epochs in table if views <= most), 300)
    return round(epochs * 2 / 3) if classes >= 100 else epochs


PROTOCOLS = {"idc": idc, "dm": dm, "imagenet": imagenet, "imagenet100": imagenet100}


def training_of(config: Evaluate) -> Train:
    """The training of an evaluation: its protocol with its epochs, flip and augmentation."""
    train = PROTOCOLS[config.protocol]()
    if config.epochs is not None:
        train = replace(train, epochs=config.epochs)
    if not config.flip:
        train = replace(train, augment=train.augment.without("flip"))
    if config.augment == "none":
        train = replace(train, augment=replace(train.augment, strategy="none"), cutmix_probability=0.0)
    return train
