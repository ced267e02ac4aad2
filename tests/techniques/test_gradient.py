from __future__ import annotations

import pytest
import torch
from torch import nn

from goodfit.techniques.gradient import Accumulate, Plain, Sam, pieces
from goodfit.techniques.loss import Bce, CrossEntropy, Focal, Mse
from goodfit.types import Batch


def gradients(model, loss, technique, batch):
    model.zero_grad()
    total = loss.weigh(batch.targets, batch.weight)

    def backward(piece):
        share = loss(model(piece.inputs), piece.targets, piece.weight) / total
        share.backward()
        return share.detach()

    mean = technique(backward, batch, parameters=list(model.parameters()))
    return mean, torch.cat([p.grad.flatten() for p in model.parameters()])


def a_batch(case, samples=11):
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(samples, 6, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, 4, (samples,), generator=generator)
    weight = torch.rand(samples, generator=generator, dtype=torch.float64) if "weight" in case else None
    if case == "tokens":
        inputs = torch.randn(samples, 5, 6, generator=generator, dtype=torch.float64)
        targets = torch.randint(0, 4, (samples, 5), generator=generator)
        targets[torch.rand(samples, 5, generator=generator) < 0.5] = -100
        targets[-1] = -100
    elif case == "soft":
        targets = torch.softmax(torch.randn(samples, 4, generator=generator, dtype=torch.float64), -1)
    elif case == "regression":
        targets = torch.randn(samples, 4, generator=generator, dtype=torch.float64)
    return Batch(inputs, targets, weight, torch.arange(samples))


CASES = {
    "plain": CrossEntropy(label_smoothing=0.1),
    "class weights": CrossEntropy(class_weight="inverse", weights=(0.2, 1.0, 5.0, 2.0)),
    "sample weight": CrossEntropy(class_weight="inverse", weights=(0.2, 1.0, 5.0, 2.0)),
    "tokens": CrossEntropy(),
    "soft": CrossEntropy(class_weight="inverse", weights=(0.2, 1.0, 5.0, 2.0)),
    "focal": Focal(alpha=(1.0, 2.0, 3.0, 4.0)),
    "bce": Bce(pos_weight=3.0),
    "regression": Mse(),
}


@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize("microbatch", [1, 4, 11, 50])
def test_accumulation_equals_the_large_batch(case, microbatch):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()
    batch = a_batch(case)
    whole_loss, whole = gradients(model, CASES[case], Plain(), batch)
    loss, made = gradients(model, CASES[case], Accumulate(microbatch=microbatch), batch)
    assert float((made - whole).abs().max()) < 1e-12
    assert float((loss - whole_loss).abs()) < 1e-12


def test_averaging_the_means_of_pieces_would_fail_this_test():
    model = nn.Linear(6, 4).double()
    batch, loss = a_batch("class weights"), CASES["class weights"]
    _, whole = gradients(model, loss, Plain(), batch)
    model.zero_grad()
    parts = list(pieces(batch, 4))
    for piece in parts:
        (loss(model(piece.inputs), piece.targets, None) / loss.weigh(piece.targets, None) / len(parts)).backward()
    wrong = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert float((wrong - whole).abs().max()) > 1e-3


def test_pieces_keep_every_field_together_and_cut_dicts():
    index = torch.arange(7)
    batch = Batch({"a": index * 2, "b": torch.stack([index, index], 1)}, index * 3, index.double(), index)
    cut = list(pieces(batch, 3))
    assert [len(p.index) for p in cut] == [3, 2, 2]  # even pieces: no batch norm meets a single sample
    for p in cut:
        assert p.weight is not None
        assert torch.equal(p.inputs["a"], p.index * 2)
        assert torch.equal(p.inputs["b"][:, 1], p.index)
        assert torch.equal(p.targets, p.index * 3)
        assert torch.equal(p.weight, p.index.double())


def test_sam_takes_the_gradient_at_the_worst_point_nearby_and_puts_the_weights_back():
    torch.manual_seed(0)
    model = nn.Linear(6, 4).double()
    batch, loss = a_batch("plain"), CASES["plain"]
    before = [p.detach().clone() for p in model.parameters()]
    plain_loss, first = gradients(model, loss, Plain(), batch)
    with torch.no_grad():
        shift = 0.3 * first / first.norm()
        sizes = [p.numel() for p in before]
        for p, s in zip(model.parameters(), shift.split(sizes), strict=True):
            p += s.view_as(p)
    _, expected = gradients(model, loss, Plain(), batch)
    with torch.no_grad():
        for p, b in zip(model.parameters(), before, strict=True):
            p.copy_(b)
    for technique in (Sam(rho=0.3), Sam(rho=0.3, microbatch=4)):
        made_loss, made = gradients(model, loss, technique, batch)
        torch.testing.assert_close(made, expected, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(made_loss, plain_loss)
        assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize("make", [lambda: Accumulate(microbatch=0), lambda: Sam(rho=0.0), lambda: Sam(rho=-1.0)])
def test_settings_out_of_range_are_refused_with_the_range(make):
    with pytest.raises(ValueError, match="greater than"):
        make()
