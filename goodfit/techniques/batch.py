"""All techniques that change a batch before the model sees it; each is a pure function of the batch and the moment."""

from __future__ import annotations

from typing import Any

from goodfit.techniques.batch_colour import ColourJitter
from goodfit.techniques.batch_grow import Grow
from goodfit.techniques.batch_images import Crop, Cutout, Erasing, Flip
from goodfit.techniques.batch_inputs import active
from goodfit.techniques.batch_minority import Minority, by_rarity
from goodfit.techniques.batch_mix import Cutmix, Mixup
from goodfit.techniques.batch_noise import Noise
from goodfit.techniques.batch_policy import AutoAugment, RandAugment, TrivialAugment
from goodfit.techniques.batch_series import Scaling, WindowSlice
from goodfit.techniques.batch_table import EmbeddingMixup
from goodfit.techniques.batch_text import BackTranslation, Synonyms
from goodfit.techniques.batch_warp import RandomResizedCrop, Rotation
from goodfit.techniques.batch_words import TokenNoise, WordDrop, WordSwap

# In the order of their use: what moves, colours or covers, then what mixes, CutMix last. Moved or covered afterwards,
# the pixels of its boxes would no longer be the shares that its targets say.
ALL: tuple[type[Any], ...] = (
    Minority,
    Flip,
    RandomResizedCrop,
    Rotation,
    Crop,
    AutoAugment,
    RandAugment,
    TrivialAugment,
    ColourJitter,
    Cutout,
    Erasing,
    WindowSlice,
    Scaling,
    Noise,
    Synonyms,
    BackTranslation,
    WordDrop,
    WordSwap,
    TokenNoise,
    Grow,
    EmbeddingMixup,
    Mixup,
    Cutmix,
)

__all__ = [
    "ALL",
    "AutoAugment",
    "BackTranslation",
    "ColourJitter",
    "Crop",
    "Cutmix",
    "Cutout",
    "EmbeddingMixup",
    "Erasing",
    "Flip",
    "Grow",
    "Minority",
    "Mixup",
    "Noise",
    "RandAugment",
    "RandomResizedCrop",
    "Rotation",
    "Scaling",
    "Synonyms",
    "TokenNoise",
    "TrivialAugment",
    "WindowSlice",
    "WordDrop",
    "WordSwap",
    "active",
    "by_rarity",
]
