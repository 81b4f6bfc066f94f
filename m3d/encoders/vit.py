"""A vision transformer: ViT-Tiny, 12 pre-norm blocks of width 192 with three heads, and a class token.

Source: Touvron et al., "Training data-efficient image transformers" (2021), DeiT-Ti. Two differences: DeiT-Ti has
patches of 16 px at 224 px, while here smaller images have smaller patches, so that a side has at least 7 of them (2 px
at 16, 4 px at 28 and 32, 8 px at 64). And linear layers are drawn uniformly within 1 / sqrt(fan in), as in all networks
of this package, instead of from a truncated normal distribution.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from m3d.config import ConfigError
from m3d.encoders.network import Network, Tokens
from m3d.shapes import Float

WIDTH, DEPTH, HEADS, HIDDEN = 192, 12, 3, 768
LARGEST_PATCH = 16
LEAST_PATCHES = 7
"""Smallest number of patches along a side."""


class VitTiny(Network):
    """The network of DeiT-Ti; its feature vector is the class token after the last norm."""

    feature_count = WIDTH

    def __init__(self, *, channels: int, image_size: int, classes: int) -> None:
        super().__init__()
        patch = patch_side(image_size)
        self.patches = nn.Conv2d(channels, WIDTH, patch, stride=patch)
        self.tokens = Tokens(1 + (image_size // patch) ** 2, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)
        self.classifier = nn.Linear(WIDTH, classes)

    def features(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        x = self.tokens(self.patches(x).flatten(2).mT)
        for block in self.blocks:
            x = block(x)
        return self.norm(x[:, 0])


class Block(nn.Module):
    """Attention, then two linear layers; each part follows a norm and has a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_norm, self.linear_norm = nn.LayerNorm(WIDTH, eps=1e-6), nn.LayerNorm(WIDTH, eps=1e-6)
        self.query_key_value, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.widen, self.narrow = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        batch, count, _ = x.shape
        parts = self.query_key_value(self.attention_norm(x)).view(batch, count, 3, HEADS, WIDTH // HEADS)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(batch, count, WIDTH)
        x = x + self.out(mixed)
        return x + self.narrow(F.gelu(self.widen(self.linear_norm(x))))


def patch_side(image_size: int) -> int:
    """Side of a patch in pixels: the largest power of two that divides the image's side into seven patches or more.

    Raises:
        ConfigError: there is none.
    """
    for patch in (LARGEST_PATCH, 8, 4, 2):
        if image_size % patch == 0 and image_size // patch >= LEAST_PATCHES:
            return patch
    if image_size >= 2 * LEAST_PATCHES:
        raise ConfigError(f"needs an even number of pixels a side, given {image_size}; use images of another size")
    least = 2 * LEAST_PATCHES
    raise ConfigError(f"needs images of at least {least} px, given {image_size}; use another architecture")
