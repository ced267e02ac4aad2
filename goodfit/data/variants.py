"""Variants of training texts: made once before training, kept in a cache, and encoded as the texts are."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from goodfit import store
from goodfit.data.data import Data
from goodfit.errors import RecipeError
from goodfit.technique import settings_of
from goodfit.types import Tensors

_AT_ONCE = 32
_QUIET = 2.0
"""Seconds after which progress is told."""


@dataclass(frozen=True)
class Rewritten(Tensors):
    """A training part with variants of its texts: for each technique ``(variants, samples, length)`` int32."""

    variants: Mapping[str, Tensor] = field(default_factory=dict)


def rewritten(
    data: Data,
    techniques: Iterable[Any],
    *,
    cache: Path,
    device: torch.device,
    say: Callable[[str], None] = lambda _: None,
) -> Data:
    """The same data with the variants that these batch techniques want of its training texts; most want none.

    A technique that does has ``rewriter(known, device)``: what makes variants of texts, and a text that tells them from
    those of other tools; ``settings_of`` it and each text are the rest of the key they are kept under.
    say: told of progress where it takes more than two seconds.
    """
    wanted = [one for one in techniques if hasattr(one, "rewriter")]
    if not wanted:
        return data
    train, encoder = data.train, data.encoder
    if not isinstance(train, Tensors) or train.texts is None:
        raise RecipeError([f"'batch.{wanted[0].name}' rewrites texts, and this data holds none; take it out"])
    known = known_words(encoder)
    rows = {}
    for technique in wanted:
        rewrite, tool = technique.rewriter(None if known is None else known.__contains__, device)
        settings = {k: v for k, v in settings_of(technique).items() if k not in ("until", "download", "wordnet")}
        words = "" if known is None else hashlib.sha256("\x1f".join(sorted(known)).encode()).hexdigest()
        name = hashlib.sha256(json.dumps([technique.name, settings, tool, words]).encode()).hexdigest()[:24]
        kept = Kept(cache / f"{technique.name}-{name}.jsonl")
        made = kept.all(train.texts, rewrite, partial(_say, say, technique.name))
        encode: Any = encoder
        rows[technique.name] = torch.stack([encode.tokens(version).int() for version in zip(*made, strict=True)])
    part = Rewritten(train.inputs, train.targets, train.index, train.weight, train.texts, rows)
    return replace(data, train=part)


def _say(say: Callable[[str], None], name: str, text: str) -> None:
    say(f"  {name}: {text}")


def known_words(encoder: Any) -> frozenset[str] | None:
    """The words that an encoder's vocabulary of whole words holds; None where it can write every word."""
    words = encoder.words
    return None if words.bpe or words.characters else frozenset(words.tokens)


class Kept:
    """Variants by text, in a file of JSON lines that grows as they are made; an interrupted job goes on from there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def all(
        self, texts: Sequence[str], rewrite: Callable[[Sequence[str]], list[list[str]]], say: Callable[[str], None]
    ) -> list[list[str]]:
        """The variants of every text; those that are not kept yet are made, a few texts at a time."""
        keys = [hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32] for text in texts]
        found = {
            row["text"]: row["variants"] for row in store.read_lines(self.path) if {"text", "variants"} <= set(row)
        }
        missing = list({key: text for key, text in zip(keys, texts, strict=True) if key not in found}.items())
        if missing:
            store.probe(self.path.parent)
            store.cut_lines(self.path, len(found))  # a torn line would hide what is written behind it
        began = told = time.monotonic()
        for at in range(0, len(missing), _AT_ONCE):
            some = missing[at : at + _AT_ONCE]
            for (key, _), variants in zip(some, rewrite([text for _, text in some]), strict=True):
                found[key] = variants
                store.append_line(self.path, {"text": key, "variants": variants})
            now, done = time.monotonic(), at + len(some)
            # Told after two seconds, and then ever more rarely.
            if done < len(missing) and now - began > _QUIET and now - told > max(_QUIET, 0.2 * (told - began)):
                told = now
                left = (now - began) / done * (len(missing) - done)
                say(f"variants of {done:,} of {len(missing):,} texts are made, about {_clock(left)} left")
        return [found[key] for key in keys]


def _clock(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
