"""Texts in other words: synonyms, and translations there and back; made before training, picked while training."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from goodfit import keyed
from goodfit.errors import RecipeError
from goodfit.technique import Chance, Count, Positive, Until, technique
from goodfit.techniques.batch_inputs import active
from goodfit.techniques.batch_words import no_text, with_words, words_of
from goodfit.techniques.translation import Translator, back_translated, identity
from goodfit.techniques.wordnet import WordNet, find_wordnet
from goodfit.types import Batch, InputSpec, Moment, Part

Rewrite = Callable[[Sequence[str]], list[list[str]]]
"""Texts to as many lists of variants."""
Known = Callable[[str], bool]
"""Whether a model's vocabulary holds a word."""
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Variants:
    """Token rows of the variants of training texts.

    index: ``(samples,)`` sample numbers, ascending. rows: ``(samples,)`` each one's row in ``tokens`` ``(variants,
    samples, length)``.
    """

    index: Tensor
    rows: Tensor
    tokens: Tensor


def variants_of(name: str, part: Part, device: torch.device) -> Variants:
    """The variants that were made of a training part's texts for this technique."""
    made: Tensor | None = getattr(part, "variants", {}).get(name)
    if made is None:
        raise RecipeError([f"'batch.{name}' needs texts in memory, whose variants are made before training"])
    index, rows = part.index.to(device).sort()
    return Variants(index, rows, made.to(device))


def pick(tokens: Tensor, index: Tensor, variants: Variants, *, place: int) -> Tensor:
    """For each sample its own text or one of its variants, all equally likely.

    tokens: ``(batch, length)`` int64. index: ``(batch,)`` sample numbers; one that has no variants keeps its text.
    """
    count = len(variants.tokens)
    number = keyed.integers(place, index, 0, count + 1)[:, 0]
    at = torch.searchsorted(variants.index, index).clamp_max(len(variants.index) - 1)
    chosen = variants.tokens[(number - 1).clamp_min(0), variants.rows[at]].to(tokens.dtype)
    return torch.where(((number > 0) & (variants.index[at] == index))[:, None], chosen, tokens)


def with_synonyms(
    texts: Sequence[str], wordnet: WordNet, *, p: float, variants: int, senses: int = 1, known: Known | None = None
) -> list[list[str]]:
    """``variants`` versions of each text, in which a share ``p`` of its words is replaced by synonyms, one at least.

    known: words that may come in; all unless given. A pure function of each text. A text without any synonym stays.
    """
    found = []
    for text in texts:
        spans = [one.span() for one in _WORD.finditer(text)]
        choices = [_choices(text[start:end], wordnet, senses, known) for start, end in spans]
        open_places = [number for number, one in enumerate(choices) if one]
        if not open_places:
            found.append([text] * variants)
            continue
        digest = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)
        draws = keyed.uniform(keyed.key(0, "synonyms"), torch.arange(variants) + digest, 2 * len(open_places)).tolist()
        wanted = max(1, round(p * len(spans)))
        found.append([_replaced(text, spans, choices, open_places, draw, wanted) for draw in draws])
    return found


def _choices(word: str, wordnet: WordNet, senses: int, known: Known | None) -> tuple[str, ...]:
    """A word's synonyms, written as the word is."""
    found = wordnet.synonyms(word, senses=senses)
    if known is not None:
        found = tuple(one for one in found if all(known(part.lower()) for part in _WORD.findall(one)))
    if word.isupper() and len(word) > 1:
        return tuple(one.upper() for one in found)
    return tuple(one[:1].upper() + one[1:] for one in found) if word[:1].isupper() else found


def _replaced(
    text: str,
    spans: Sequence[tuple[int, int]],
    choices: Sequence[tuple[str, ...]],
    open_places: Sequence[int],
    draw: Sequence[float],
    wanted: int,
) -> str:
    order = sorted(range(len(open_places)), key=lambda number: draw[number])[:wanted]
    made = text
    for number in sorted(order, reverse=True):  # from the end, so that places before stay true
        place = open_places[number]
        options = choices[place]
        start, end = spans[place]
        made = made[:start] + options[int(draw[len(open_places) + number] * len(options))] + made[end:]
    return made


@technique("batch")
class Synonyms:
    """Replace some words of a text by words that mean the same.

    The model learns that what is said counts, and meets its rarer words in more places.

    Formula: of a text's n words, ``max(1, p n)`` that have synonyms are replaced, each by one of its own, all equally
    likely. So many variants of each training text are made once, before training; each sample shows in each epoch
    its own text or one of them, all equally likely.
    Source: Zhang, Zhao and LeCun 2015; Wei and Zou 2019 (EDA, p 0.1); synonyms of WordNet (Fellbaum 1998). Ours takes
    them from the word's most common senses, as the part of speech it is mostly used as; leaves function words and
    inflected forms alone; and, where the model's vocabulary is one of whole words, brings in only words that it knows,
    since an unknown one would be a gap.
    Helps: some hundred texts, pretrained models (``data.like``) and byte pairs, which know every word. Hurts: thousands
    of texts; opinions and terms in which no word stands for another; WordNet is English and old.

    p: share of the words that are replaced. variants: versions made of each text. senses: how many of a word's senses
    give synonyms, the most common first. wordnet: the folder of WordNet's files (or a zip of it), searched for in the
    usual places unless said; nothing is downloaded.
    until: off from here on, such as ``"80%"``.
    """

    kinds: ClassVar[tuple[str, ...]] = ("text", "table")

    p: Chance = 0.1
    variants: Count = 4
    senses: Count = 1
    wordnet: str | None = None
    until: Until | None = None

    @staticmethod
    def refuses(spec: InputSpec, model: str) -> str:
        """Why there is nothing to replace, or nothing."""
        return "replaces words, and this table has no text column" if no_text(spec) else ""

    def rewriter(self, known: Known | None, device: torch.device) -> tuple[Rewrite, str]:
        """What makes variants of texts, and what, beside the settings, tells them from others."""
        wordnet = find_wordnet(self.wordnet)

        def rewrite(texts: Sequence[str]) -> list[list[str]]:
            return with_synonyms(texts, wordnet, p=self.p, variants=self.variants, senses=self.senses, known=known)

        return rewrite, wordnet.digest

    def read(self, part: Part, spec: InputSpec, device: torch.device) -> Variants:
        """The variants of the training texts."""
        return variants_of(self.name, part, device)  # type: ignore[attr-defined]

    def __call__(self, batch: Batch, moment: Moment) -> Batch:
        """Refused: variants are made from texts, of which a batch holds only token numbers; use ``with_synonyms``."""
        raise RecipeError(["'batch.synonyms' was not given the training texts; use goodfit.train or with_synonyms"])

    def change(self, batch: Batch, moment: Moment, known: Variants) -> Batch:
        """The batch with some texts in other words."""
        if not active(self, moment):
            return batch
        place = keyed.key(moment.seed, "synonyms", moment.epoch)
        return with_words(batch, pick(words_of("synonyms", batch), batch.index, known, place=place))


@technique("batch")
class BackTranslation:
    """Translate texts into another language and back, and train on what returns.

    It says the same in other words and another order, as no exchange of single words does.

    Formula: each sentence is translated by sampling, ``token ~ softmax(logits / temperature)``, and back by the
    likeliest token at each step. So many variants of each training text are made once, before training, and kept in
    the cache; each sample shows in each epoch its own text or one of them, all equally likely.
    Source: Sennrich, Haddow and Birch 2016 (for translation); Xie et al. 2020 (UDA, for classification, temperature
    0.9); sampling there rather than beam search: Edunov et al. 2018. Ours samples by keyed Gumbel noise, so a text's
    variants depend on nothing but the text, the models and these settings, and not on the seed.
    Helps: few texts and a good translation model for their language; pretrained models. Hurts: time, about a second a
    text on a CPU with the usual models; names, terms and style are lost on the way; a vocabulary of whole words sees
    gaps where the paraphrase is new (``data.tokens = "bpe"`` does not).

    there, back: translation models, as folders of saved models or names on the hub. variants: versions made of each
    text. temperature: below 1 closer to the text, above 1 further from it. download: fetch models that are not on this
    machine; without it nothing is ever downloaded.
    until: off from here on, such as ``"80%"``.
    """

    kinds: ClassVar[tuple[str, ...]] = ("text", "table")

    there: str = "Helsinki-NLP/opus-mt-en-de"
    back: str = "Helsinki-NLP/opus-mt-de-en"
    variants: Count = 2
    temperature: Positive = 0.9
    download: bool = False
    until: Until | None = None

    @staticmethod
    def refuses(spec: InputSpec, model: str) -> str:
        """Why there is nothing to translate, or nothing."""
        return "translates texts, and this table has no text column" if no_text(spec) else ""

    def rewriter(self, known: Known | None, device: torch.device) -> tuple[Rewrite, str]:
        """What makes variants of texts, and what, beside the settings, tells them from others."""
        models: list[Translator] = []

        def rewrite(texts: Sequence[str]) -> list[list[str]]:
            if not models:
                models.extend(Translator(one, download=self.download, device=device) for one in (self.there, self.back))
            return back_translated(texts, *models, variants=self.variants, temperature=self.temperature)

        return rewrite, f"{identity(self.there)} {identity(self.back)}"

    def read(self, part: Part, spec: InputSpec, device: torch.device) -> Variants:
        """The variants of the training texts."""
        return variants_of(self.name, part, device)  # type: ignore[attr-defined]

    def __call__(self, batch: Batch, moment: Moment) -> Batch:
        """Refused: variants are made from texts, of which a batch holds only token numbers; use ``back_translated``."""
        raise RecipeError(
            ["'batch.back_translation' was not given the training texts; use goodfit.train or back_translated"]
        )

    def change(self, batch: Batch, moment: Moment, known: Variants) -> Batch:
        """The batch with some texts in other words."""
        if not active(self, moment):
            return batch
        place = keyed.key(moment.seed, "back_translation", moment.epoch)
        return with_words(batch, pick(words_of("back_translation", batch), batch.index, known, place=place))
