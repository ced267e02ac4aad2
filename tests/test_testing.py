"""goodfit.testing: each assertion fails on the mistake it is for, passes without it, and changes nothing."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import goodfit
from goodfit import testing
from goodfit.errors import ModelError

G = torch.Generator().manual_seed(1)
X, Y = torch.randn(12, 6, generator=G), torch.randint(0, 3, (12,), generator=G)
TOKENS = torch.randint(0, 11, (4, 9), generator=G)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))


class Made(nn.Module):
    """A module from a function of itself and its inputs, with two layers to use."""

    def __init__(self, call: Callable[..., Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.call = nn.Linear(6, 8), nn.Linear(8, 3), call

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return self.call(self, *inputs, **named)


class Wrong(torch.autograd.Function):
    """A square whose gradient misses its factor of two."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return grad * ctx.saved_tensors[0]


def plain(self: Any, x: Tensor) -> Any:
    return self.last(self.first(x).relu())


class Language(nn.Module):
    def __init__(self, causal: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head, self.causal = nn.Embedding(11, 8), nn.Linear(8, 11), causal

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None) -> Any:
        x = self.embed(input_ids)
        mixed = F.scaled_dot_product_attention(x, x, x, is_causal=self.causal)
        logits = self.head(x + mixed)
        loss = None if labels is None else F.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return SimpleNamespace(logits=logits, loss=loss) if labels is not None else logits


ALL = [
    testing.assert_learns_one_batch,
    testing.assert_no_batch_leak,
    testing.assert_gradients_match,
    testing.assert_all_parameters_learn,
    testing.assert_deterministic_eval,
]


@pytest.mark.parametrize("check", ALL)
def test_a_healthy_network_passes_and_nothing_is_changed(check: Callable[..., None]) -> None:
    model = net().train()
    before, mode = copy.deepcopy(model.state_dict()), model.training
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    check(model, (X, Y))
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    assert model.training == mode
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index]


@pytest.mark.parametrize("check", [testing.assert_learns_one_batch, testing.assert_gradients_match])
def test_a_loss_of_ones_own_and_inputs_of_several_forms(check: Callable[..., None]) -> None:
    values = torch.randn(12, 3, generator=G)
    check(Made(plain), (X, values))
    check(Made(plain), (X, values), nn.SmoothL1Loss(beta=0.5))
    check(Made(plain), (X, Y), nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 3.0])))
    check(Made(lambda self, a, b: plain(self, a + b)), ((X, X), Y))
    check(Made(lambda self, *, a, flag: plain(self, a)), ({"a": X, "flag": True}, Y))
    check(Language(True), {"input_ids": TOKENS[:2, :5], "labels": TOKENS[:2, 1:6]})


def test_inputs_that_tell_nothing_cannot_be_memorised() -> None:
    model = Made(lambda self, x: plain(self, x * 0) * 0 + self.last.bias)
    with pytest.raises(AssertionError, match=r"one-batch: model: cannot memorise one batch of 12: loss 1\.\d+ -> "):
        testing.assert_learns_one_batch(model, (X, Y), steps=40)
    with pytest.raises(AssertionError, match="no trainable parameter"):
        testing.assert_learns_one_batch(net().requires_grad_(False), (X, Y))
    with pytest.raises(AssertionError, match="depends on no parameter"):
        testing.assert_learns_one_batch(Made(lambda self, x: plain(self, x).detach()), (X, Y))


def test_a_floor_counts_as_zero() -> None:
    def raised(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets) + 5

    with pytest.raises(AssertionError, match="one-batch"):
        testing.assert_learns_one_batch(net(), (X, Y), raised, steps=60)
    testing.assert_learns_one_batch(net(), (X, Y), raised, floor=5.0)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_softmax_over_the_batch_leaks(axis: int) -> None:
    model = Made(lambda self, x: self.last(self.first(x).softmax(axis)))
    if axis:
        testing.assert_no_batch_leak(model, X)
    else:
        with pytest.raises(AssertionError, match=r"batch-leak: model: .* neighbours in the batch\n  seen: change "):
            testing.assert_no_batch_leak(model, X)


def test_batch_norm_in_train_mode_is_no_leak_in_eval_mode_and_several_outputs_are_looked_at() -> None:
    testing.assert_no_batch_leak(net().train(), (X, Y))
    leaky = Made(lambda self, x: {"healthy": plain(self, x), "other": (x - x.mean(0), x.mean(0))})
    with pytest.raises(AssertionError, match="batch-leak"):
        testing.assert_no_batch_leak(leaky, X)


@pytest.mark.parametrize("batch", [TOKENS, {"input_ids": TOKENS, "attention_mask": torch.ones(4, 9), "labels": TOKENS}])
def test_attention_without_a_mask_is_not_causal(batch: Any) -> None:
    testing.assert_causal(Language(True), batch)
    with pytest.raises(AssertionError, match=r"causal-leak: model: outputs change by .* when later tokens change"):
        testing.assert_causal(Language(False), batch)


def test_a_series_is_causal_with_padding_on_the_left_only() -> None:
    torch.manual_seed(0)
    both = nn.Conv1d(2, 3, 3, padding=1)

    class Net(nn.Module):
        def __init__(self, left: bool) -> None:
            super().__init__()
            self.layer, self.left = (nn.Conv1d(2, 3, 3) if left else both), left

        def forward(self, x: Tensor) -> Tensor:
            x = x.transpose(1, 2)
            return self.layer(F.pad(x, (2, 0)) if self.left else x).transpose(1, 2)  # type: ignore[no-any-return]

    series = torch.randn(3, 12, 2, generator=G)
    testing.assert_causal(Net(True), series)
    with pytest.raises(AssertionError, match="causal-leak"):
        testing.assert_causal(Net(False), (series, torch.zeros(3)))


def test_a_backward_that_is_wrong_is_seen() -> None:
    testing.assert_gradients_match(Made(lambda self, x: self.last(self.first(x).square())), (X, Y))
    with pytest.raises(AssertionError, match=r"wrong-gradient: first\.\w+: back-propagation and numerical"):
        testing.assert_gradients_match(Made(lambda self, x: self.last(Wrong.apply(self.first(x)))), (X, Y))


def test_parameters_that_get_no_gradient_or_only_zeros() -> None:
    with pytest.raises(AssertionError, match=r"no-gradient: first\.weight: 2 of 4 parameters get no gradient"):
        testing.assert_all_parameters_learn(Made(lambda self, x: self.last(self.first(x).detach())), (X, Y))
    with pytest.raises(AssertionError, match=r"parameter-without-effect: first\.weight: .* zero in all of 5 steps"):
        testing.assert_all_parameters_learn(Made(lambda self, x: self.last(self.first(x) * 0 + 1)), (X, Y))
    zeroed = net()
    nn.init.zeros_(zeroed[4].weight)  # type: ignore[arg-type]
    testing.assert_all_parameters_learn(zeroed, (X, Y))
    zeroed[0].requires_grad_(False)
    testing.assert_all_parameters_learn(zeroed, (X, Y))


@pytest.mark.parametrize(
    "draw", [lambda x: F.dropout(x), lambda x: x + random.random(), lambda x: x * float(np.random.rand())]
)
def test_random_numbers_in_eval_mode(draw: Callable[[Tensor], Tensor]) -> None:
    model = Made(lambda self, x: plain(self, draw(x)))
    with pytest.raises(AssertionError, match=r"outputs for the same inputs differ by \d"):
        testing.assert_deterministic_eval(model, X)
    testing.assert_deterministic_eval(Made(lambda self, x: plain(self, draw(x) if self.training else x)), X)


def test_what_cannot_be_decided_says_why() -> None:
    noisy = Made(lambda self, x: plain(self, F.dropout(x)))
    with pytest.raises(ModelError, match=r"cannot be decided: .* from call to call in eval mode"):
        testing.assert_gradients_match(noisy, (X, Y))
    with pytest.raises(ModelError, match="fewer than four samples"):
        testing.assert_no_batch_leak(net(), X[:2])
    with pytest.raises(ModelError, match=r"failed: RuntimeError: .*mat1 and mat2"):
        testing.assert_learns_one_batch(net(), (X[:, :5], Y))
    with pytest.raises(ModelError, match=r"outputs \(12, 3\) and targets \(12\) differ in shape"):
        testing.assert_learns_one_batch(net(), (X, Y.float()))
    with pytest.raises(ModelError, match="give loss="):
        testing.assert_all_parameters_learn(net(), X)
    with pytest.raises(ModelError, match="a batch is"):
        testing.assert_no_batch_leak(net(), 3)
    with pytest.raises(ModelError, match="with time at least 3"):
        testing.assert_causal(net(), X[:, :2])


def test_it_is_reached_through_the_package() -> None:
    assert goodfit.testing is testing
    with goodfit.watch(net()) as watch:
        pass
    assert watch.findings == []
