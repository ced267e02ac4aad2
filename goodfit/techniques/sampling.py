"""In which order samples are shown, and how often: a function of seed, epoch and the samples' own numbers."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from goodfit import keyed
from goodfit.errors import DataError
from goodfit.technique import Share, technique
from goodfit.types import Part


@technique("sampling")
class Shuffle:
    """Every sample once an epoch, in a new random order each time.

    Formula: samples sorted by 64 random bits of (seed, epoch, sample number).
    Ours: the order depends on the samples' own numbers, so taking one sample out leaves the order of the others.
    Helps: always, but for series that must stay in order.
    """

    def order(self, part: Part, *, seed: int, epoch: int) -> Tensor:
        """Positions ``(n,)`` int64 on the CPU."""
        return shuffled(part.index, seed=seed, epoch=epoch)


@technique("sampling")
class Sequential:
    """Every sample once an epoch, in the order of the source.

    Helps: debugging. Hurts: batches are all alike when the source is sorted by class.
    """

    def order(self, part: Part, *, seed: int, epoch: int) -> Tensor:
        """Positions ``(n,)`` int64 on the CPU."""
        return torch.arange(len(part))


@technique("sampling")
class Balanced:
    """Rare classes are shown more often, common ones less; an epoch stays as long as it was.

    Formula: of the n places of an epoch a class gets a share proportional to ``n_c ** (1 - power)``: power 1 shows all
        classes equally often, 0 changes nothing. Within a class every sample is shown equally often, give or take one.
    Source: Shen et al., 2016 (class-aware sampling); partial: Mahajan et al., 2018 (square root: power 0.5).
    Ours: counts are exact instead of drawn with replacement, which varies less; which samples get the odd place
        changes from epoch to epoch. Several processes under torchrun make the same order and take their shares of it.
    Helps: recall of rare classes. Hurts: rare samples are learned by heart; probabilities are shifted towards rare
        classes (calibrate, or tune the threshold).
    Often wrong: together with class weights in the loss it corrects twice, and so is refused.

    power: strength; .5 is partial oversampling, by square roots.
    combine: true allows class weights, ``pos_weight``, ``alpha`` or logit adjustment in the loss beside it.
    """

    power: Share = 1.0
    combine: bool = False

    def order(self, part: Part, *, seed: int, epoch: int) -> Tensor:
        """Positions ``(n,)`` int64 on the CPU. Raises DataError where targets are no classes."""
        return balanced(part.targets, part.index, seed=seed, epoch=epoch, power=self.power)


@technique("sampling")
class Streams:
    """A text is read as parallel streams, and a recurrent net's memory goes on from batch to batch.

    This is truncated back-propagation through time: the hidden state is carried from window to window of the text, in
    order, and the gradient is cut at each window's start, so ``data.length`` is how far it reaches back.

    Formula: n windows make B streams of n / B windows, B being the batch size; row i of batch k is window k of stream
        i and starts from the state in which window k - 1 left it. Every epoch begins without memory.
    Source: Williams and Peng (1990); as in Mikolov et al. (2010) and Zaremba et al. (2014) for language models.
    Ours: the state is part of the checkpoint, so a run that was interrupted in the middle of an epoch goes on exactly.
        Validation carries the state too, in up to 16 streams.
    Helps: recurrent nets on long texts: every token has a past, in training as in use. Hurts: batches follow one
        another in the order of the text, so they are alike; fewer streams are longer, more are more varied.
    """

    carries: ClassVar[bool] = True

    def order(self, part: Part, *, seed: int, epoch: int) -> Tensor:
        """Positions ``(n,)`` int64 on the CPU; the loop deals them out to streams."""
        return torch.arange(len(part))


ALL = (Shuffle, Sequential, Streams, Balanced)


def shuffled(index: Tensor, *, seed: int, epoch: int) -> Tensor:
    """Positions in random order. index: ``(n,)`` the samples' own numbers."""
    return torch.argsort(keyed.bits(keyed.key(seed, "order", epoch), index.cpu())[:, 0], stable=True)


def balanced(targets: Tensor, index: Tensor, *, seed: int, epoch: int, power: float = 1.0) -> Tensor:
    """Positions in random order, as many as there are samples, with classes evened out by ``power``.

    targets: ``(n,)`` int64 classes. index: ``(n,)`` the samples' own numbers.
    """
    if targets.dim() != 1 or targets.is_floating_point():
        raise DataError("sampling = 'balanced' needs classes as targets; use sampling = 'shuffle' for this task")
    targets, index = targets.cpu(), index.cpu()
    mixed = shuffled(index, seed=seed, epoch=epoch)
    counts = torch.bincount(targets)
    wanted = class_quotas(counts, power=power)
    positions, copies = [], []
    for kind, places in enumerate(wanted.tolist()):
        own = mixed[targets[mixed] == kind]
        if places:
            turn = torch.arange(places)
            positions.append(own[turn % len(own)])
            copies.append(turn // len(own))
    chosen, copy = torch.cat(positions), torch.cat(copies)
    place = keyed.key(seed, "balanced", epoch)
    return chosen[torch.argsort(keyed.bits(place, index[chosen] ^ (copy << 40))[:, 0], stable=True)]


def class_quotas(counts: Tensor, *, power: float) -> Tensor:
    """How many of the ``counts.sum()`` places each class gets: largest remainders, none for an empty class."""
    share = torch.where(counts > 0, counts.to(torch.float64) ** (1 - power), 0.0)
    exact = share / share.sum() * counts.sum()
    quotas = exact.floor().to(torch.int64)
    left = int(counts.sum() - quotas.sum())
    quotas[torch.argsort(exact - quotas, descending=True, stable=True)[:left]] += 1
    return quotas
