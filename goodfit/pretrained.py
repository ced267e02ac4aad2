"""The default recipe for a model that starts from weights learned elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from goodfit.models.external import PREFIXES
from goodfit.techniques.transfer import suggest

if TYPE_CHECKING:
    from goodfit.data.data import Data

Values = dict[str, tuple[Any, str, str]]
"""Key to value, reason and source, as the default recipes write them."""

_MULTIMODAL = "Tang et al. 2024, AutoGluon Multimodal"
_BERT = "Devlin et al. 2019; transformers' own defaults"


def is_pretrained(asked: Mapping[str, Any]) -> bool:
    """Whether the model that a recipe asks for starts from weights learned elsewhere; asked: its flat keys."""
    return str(asked.get("model.name", "")).startswith(PREFIXES) and asked.get("model.pretrained") is not False


def inputs_like(asked: Mapping[str, Any]) -> str | None:
    """What ``data.like`` is unless said: a model with a tokenizer of its own, or one whose weights are used."""
    name = str(asked.get("model.name", ""))
    return name if name.startswith(("hf:", "run:")) or is_pretrained(asked) else None


def strategy(data: Data, asked: Mapping[str, Any]) -> str:
    """What learns: as asked, else what the amount of data suggests."""
    return str(asked.get("transfer.name", suggest(data.spec.kind, len(data.train))[0]))


def replaced(data: Data, asked: Mapping[str, Any]) -> tuple[str, ...]:
    """How keys begin whose usual defaults for this kind of data do not hold here.

    Where only the head learns, nothing may change the inputs, so that features can be computed once.
    """
    return ("batch.",) if strategy(data, asked) == "head" else ("batch.crop",) if _photographs(data) else ()


def rows_for(data: Data, asked: Mapping[str, Any]) -> Values:
    """How to go on from pretrained weights on this data."""
    kind, samples = data.spec.kind, len(data.train)
    suggested, why = suggest(kind, samples)
    source = "Howard and Ruder 2018; our trial" if kind == "text" else "Kornblith et al. 2019; Kumar et al. 2022"
    rows: Values = {
        "init.name": ("keep", "the weights are there already", "-"),
        "transfer.name": (suggested, why, source),
        "average.name": ("none", "the schedule ends at zero", "-"),
        "stopping.name": ("none", "the schedule ends where the run ends", "our trial"),
        "optimizer.name": ("adamw", "the usual one for going on from pretrained weights", _BERT),
        "clip.norm": (1.0, "a new head's first gradients are noise", _BERT),
    }
    if strategy(data, asked) == "head":
        return rows | _head(samples)
    if kind in ("text", "language"):
        return rows | _text(samples)
    return rows | _others(samples) | (_trivial() if _photographs(data) else {})


def _head(samples: int) -> Values:
    epochs = max(20, min(100, round(200_000 / max(samples, 1))))
    return {
        "optimizer.lr": (1e-3, "a linear layer on features of unit size", "our trial"),
        "optimizer.weight_decay": (0.01, "as transformers are trained", _BERT),
        "schedule.name": ("cosine", "to zero at the end", "our trial"),
        "schedule.warmup": ("5%", "Adam's first estimates are rough", "our trial"),
        "batch_size": (64, "steps cost next to nothing on cached features", "our trial"),
        "epochs": (f"{epochs} epochs", "steps cost next to nothing on cached features", "our trial"),
    }


def _text(samples: int) -> Values:
    return {
        "optimizer.lr": (5e-4, "the head's; the layers below get a tenth and less", "our trial"),
        "optimizer.weight_decay": (0.01, "as published", _BERT),
        "schedule.name": ("linear", "to zero at the end", _BERT),
        "schedule.warmup": ("10%", "a new head's first gradients are noise", _BERT),
        "batch_size": (32, f"{samples:,} texts", _BERT),
        "epochs": ("3 epochs", "as published; more learns by heart", _BERT),
    }


def _others(samples: int) -> Values:
    return {
        "optimizer.lr": (1e-3, "the head's; the layers below get a tenth and less", _MULTIMODAL),
        "optimizer.weight_decay": (1e-3, "as published", _MULTIMODAL),
        "schedule.name": ("cosine", "warm-up, then cosine to zero", _MULTIMODAL),
        "schedule.warmup": ("10%", "a new head's first gradients are noise", _MULTIMODAL),
        "batch_size": (32 if samples < 10_000 else 128, f"{samples:,} samples", _MULTIMODAL),
        "epochs": ("20 epochs", "as published", _MULTIMODAL),
        "stopping.name": ("patience", "may be enough earlier", _MULTIMODAL),
    }


def _trivial() -> Values:
    return {"batch.trivial_augment": (True, "one policy for any photographs", _MULTIMODAL)}


def _photographs(data: Data) -> bool:
    """Images large enough for a policy made for photographs: shears and shades destroy what small ones show."""
    return data.spec.kind == "image" and min(data.spec.shape[1:]) >= 64
