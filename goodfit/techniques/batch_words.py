"""Texts changed word by word while training: words left out, words that change places, tokens that are replaced."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from goodfit import keyed
from goodfit.errors import RecipeError
from goodfit.technique import Chance, Until, technique
from goodfit.techniques.batch_inputs import active
from goodfit.techniques.fitted import some_of
from goodfit.types import Batch, InputSpec, Moment, Part


def no_text(spec: InputSpec) -> bool:
    """Whether a table has no text column."""
    return spec.kind == "table" and not spec.length


class Layout(NamedTuple):
    """How a text lies in its row. columns: how many hold its words in order; behind them there may stand its n-grams.
    fixed: token numbers that begin or end every text, as a pretrained model's marks do; they stay where they are."""

    columns: int
    fixed: Tensor


def layout_of(part: Part, spec: InputSpec, device: torch.device) -> Layout:
    """The layout of a training part's texts, its marks told from a sample of them."""
    columns = spec.length if spec.kind == "table" or spec.cardinalities else spec.shape[0]
    tokens = words_of("word_drop", some_of(part, device))[:, :columns]
    last = ((tokens != 0) * torch.arange(1, columns + 1, device=device)).amax(1, keepdim=True) - 1
    ends = [tokens[:, 0], tokens.gather(1, last.clamp_min(0))[:, 0]]
    fixed = [end[:1] for end in ends if len(end) > 1 and bool((end == end[0]).all())]
    return Layout(columns, torch.cat([tokens.new_zeros(0), *fixed]))


def words_of(name: str, batch: Batch) -> Tensor:
    """The batch's tokens ``(batch, length)`` int64. Raises RecipeError where it holds none."""
    inputs = batch.inputs
    tokens = inputs.get("tokens") if isinstance(inputs, dict) else inputs
    if tokens is None or tokens.is_floating_point() or tokens.dim() != 2:
        raise RecipeError([f"'batch.{name}' changes the words of texts, and these samples hold no text; remove it"])
    return tokens


def with_words(batch: Batch, tokens: Tensor) -> Batch:
    """The batch with other tokens."""
    inputs = batch.inputs
    return batch._replace(inputs={**inputs, "tokens": tokens} if isinstance(inputs, dict) else tokens)


def drop_words(tokens: Tensor, dropped: Tensor) -> Tensor:
    """Leave tokens out and close the gaps; 0, the padding, fills the end.

    tokens: ``(batch, length)`` int64. dropped: ``(batch, length)`` bool. A text that would lose all keeps its first.
    """
    dropped = dropped & (tokens != 0)
    all_gone = (dropped | (tokens == 0)).all(1)
    first = (tokens != 0).to(torch.int8).argmax(1, keepdim=True)
    dropped = dropped.scatter(1, first, dropped.gather(1, first) & ~all_gone[:, None])
    order = torch.argsort((dropped | (tokens == 0)).to(torch.int8), dim=1, stable=True)
    return tokens.masked_fill(dropped, 0).gather(1, order)


def move_words(tokens: Tensor, moved: Tensor, rank: Tensor) -> Tensor:
    """Let the chosen tokens of each text change places with one another, in one cycle, so that each of them moves.

    tokens: ``(batch, length)`` int64, 0 is padding and stays. moved: ``(batch, length)`` bool; a single one stays.
    rank: ``(batch, length)`` numbers whose order is the order of the cycle.
    """
    moved = moved & (tokens != 0)
    # The chosen places first, in the order of their ranks; each takes the token of the one before it in the cycle.
    order = torch.argsort(torch.where(moved, rank, torch.inf), dim=1, stable=True)
    count = moved.sum(1, keepdim=True)
    number = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
    before = torch.where(number == 0, (count - 1).clamp_min(0), number - 1)
    source = order.gather(1, torch.where(number < count, before, number))
    return torch.empty_like(tokens).scatter_(1, order, tokens.gather(1, source))


@technique("batch")
class WordDrop:
    """Leave each word (token) of a text out with probability ``p``.

    The model cannot lean on single words.

    Formula: each token is removed with probability p, those after it move up, padding fills the end; one always stays.
    Where a row holds n-grams behind its words, each of those is removed with probability p too; a pretrained model's
    marks at the start and end of every text stay.
    Source: random deletion of Wei and Zou 2019 (EDA, p 0.1), word dropout of Iyyer et al. 2015 (p 0.3). Ours works on
    tokens of whole batches, also on the text columns of tables.
    Helps: little data, long texts, bags of words. Hurts: short texts, in which the word left out was the point ("not").

    p: probability for each token. until: off from here on, such as ``"80%"``.
    """

    kinds: ClassVar[tuple[str, ...]] = ("text", "table")

    p: Chance = 0.1
    until: Until | None = None

    @staticmethod
    def refuses(spec: InputSpec, model: str) -> str:
        """Why these inputs have no words to drop, or nothing."""
        return "leaves words out, and this table has no text column" if no_text(spec) else ""

    def read(self, part: Part, spec: InputSpec, device: torch.device) -> Layout:
        """How a text lies in its row."""
        return layout_of(part, spec, device)

    def __call__(self, batch: Batch, moment: Moment) -> Batch:
        """The batch with shorter texts; all columns count as words."""
        return self.change(batch, moment, None)

    def change(self, batch: Batch, moment: Moment, known: Layout | None) -> Batch:
        """The batch with shorter texts."""
        if not active(self, moment):
            return batch
        tokens = words_of("word_drop", batch)
        place = keyed.key(moment.seed, "word_drop", moment.epoch)
        dropped = keyed.uniform(place, batch.index, tokens.shape[1]) < self.p
        end = tokens.shape[1]
        if known is not None:
            end = known.columns
            dropped &= ~torch.isin(tokens, known.fixed)
        shorter = drop_words(tokens[:, :end], dropped[:, :end])
        if end < tokens.shape[1]:
            shorter = torch.cat([shorter, drop_words(tokens[:, end:], dropped[:, end:])], 1)
        return with_words(batch, shorter)


@technique("batch")
class WordSwap:
    """Let some words (tokens) of a text change places.

    What a text says must not hang on the exact order of its words.

    Formula: each token is chosen with probability p, and the chosen ones move in one random cycle: of two, each takes
    the other's place; a single one stays.
    Source: random swap of Wei and Zou 2019 (EDA), which swaps random pairs p times as often as the text has words
    (p 0.1). Ours moves all chosen words at once, on whole batches.
    Helps: little data for topics and opinions, beside other changes. Hurts: where order carries meaning ("dog bites
    man", negation, questions); does nothing for models that read no order, and is refused for ``bag`` with n-grams made
    beforehand.

    p: probability for each token. until: off from here on, such as ``"80%"``.
    """

    kinds: ClassVar[tuple[str, ...]] = ("text", "table")

    p: Chance = 0.1
    until: Until | None = None

    @staticmethod
    def refuses(spec: InputSpec, model: str) -> str:
        """Why moving words cannot work here, or nothing."""
        if no_text(spec):
            return "moves words, and this table has no text column"
        if spec.kind == "table" or model == "mlp":
            return f"moves words, and model '{model}' takes their mean, whatever their order"
        if spec.cardinalities and model == "bag":
            return "moves words, and the n-grams of data.tokens = 'grams' were made before; set data.tokens = 'words'"
        return ""

    def read(self, part: Part, spec: InputSpec, device: torch.device) -> Layout:
        """How a text lies in its row; n-grams have no order."""
        return layout_of(part, spec, device)

    def __call__(self, batch: Batch, moment: Moment) -> Batch:
        """The batch with words moved; all columns count as words."""
        return self.change(batch, moment, None)

    def change(self, batch: Batch, moment: Moment, known: Layout | None) -> Batch:
        """The batch with words moved."""
        if not active(self, moment):
            return batch
        tokens = words_of("word_swap", batch)
        end = tokens.shape[1] if known is None else known.columns
        place = keyed.key(moment.seed, "word_swap", moment.epoch)
        chosen = keyed.uniform(place, batch.index, end) < self.p
        if known is not None:
            chosen &= ~torch.isin(tokens[:, :end], known.fixed)
        rank = keyed.uniform(keyed.key(place, "rank"), batch.index, end)
        return with_words(batch, torch.cat([move_words(tokens[:, :end], chosen, rank), tokens[:, end:]], 1))


@technique("batch")
class TokenNoise:
    """Replace some of the tokens that a language model reads by others of the same window.

    The model cannot trust its last token blindly, and learns to lean on the ones before it too.

    Formula: each input token is replaced with probability p by the token at a random place of its own window, which is
    a draw from the window's frequencies; what is to be foreseen stays as it was.
    Source: Xie et al. 2017 (unigram noising), who show that it works as smoothing does for counts of n-grams. Ours
    draws from the window in place of the whole text, so that it needs no table.
    Helps: several passes over a small text. Hurts: a text that is read once or twice only, and characters, where one
    wrong letter makes another word; the training loss is no longer that of the text.

    p: probability for each token. until: off from here on, such as ``"80%"``.
    """

    kinds: ClassVar[tuple[str, ...]] = ("language",)

    p: Chance = 0.1
    until: Until | None = None

    def __call__(self, batch: Batch, moment: Moment) -> Batch:
        """The batch with some tokens replaced; padding is neither replaced nor brought in."""
        if not active(self, moment):
            return batch
        tokens = words_of("token_noise", batch)
        place = keyed.key(moment.seed, "token_noise", moment.epoch)
        length = tokens.shape[1]
        chosen = keyed.uniform(place, batch.index, length) < self.p
        source = keyed.integers(keyed.key(place, "source"), batch.index, 0, length, length)
        other = tokens.gather(1, source)
        return with_words(batch, torch.where(chosen & (tokens != 0) & (other != 0), other, tokens))
