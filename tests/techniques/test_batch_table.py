from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pydantic
import pytest
import torch
from torch import Tensor, nn

from goodfit import keyed
from goodfit.models import build
from goodfit.models.mixing import MIXING, mixed, with_partners
from goodfit.techniques import init
from goodfit.techniques.batch import EmbeddingMixup
from goodfit.techniques.batch_mix import draw
from goodfit.techniques.gradient import pieces
from goodfit.types import Batch, Inputs, InputSpec, Moment

CLASSES = 3
MOMENT = Moment(seed=3, epoch=2, step=17, total=100, steps_per_epoch=8, classes=CLASSES)
TABLE = InputSpec("table", numeric=4, cardinalities=(3, 7), vocabulary=20, length=5, image=(3, 8, 8))
TEXT = InputSpec("text", shape=(9,), vocabulary=30, length=9)
GRAMS = InputSpec("text", shape=(14,), cardinalities=(30, 20, 10), vocabulary=60, length=9)


def inputs_like(spec: InputSpec, count: int = 8) -> Inputs:
    draws = torch.Generator().manual_seed(count)
    if spec.kind == "text":
        tokens = torch.randint(1, 30, (count, 9), generator=draws)
        tokens[:, 6:] = 0
        grams = torch.randint(30, 60, (count, 5), generator=draws)
        return torch.cat([tokens, grams], 1) if spec.cardinalities else tokens
    inputs: dict[str, Tensor] = {
        "numeric": torch.randn(count, 4, generator=draws),
        "category": torch.stack([torch.randint(0, n, (count,), generator=draws) for n in (3, 7)], 1),
    }
    if spec.length:
        inputs["tokens"] = torch.randint(0, 20, (count, 5), generator=draws)
    if spec.image:
        inputs["image"] = torch.randint(0, 256, (count, 3, 8, 8), generator=draws, dtype=torch.uint8)
    return inputs


def sample(spec: InputSpec, count: int = 8, *, soft: bool = False) -> Batch:
    targets = torch.arange(count) % CLASSES
    shares = torch.nn.functional.one_hot(targets, CLASSES).float() * 0.7 + 0.1
    return Batch(inputs_like(spec, count), shares if soft else targets, torch.rand(count) + 0.5, torch.arange(count))


def model_for(name: str, spec: InputSpec, **settings: Any) -> nn.Module:
    made = build(name, {"width": 16, "dropout": 0.0, **settings} if name != "bag" else settings, spec, CLASSES)
    init.Auto()(made, activation="relu", seed=0)
    for parameter in made.parameters():  # nothing may be zero, or a wrong mixture would not show
        parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return made


def test_the_embeddings_are_mixed_as_the_formula_says_in_float64() -> None:
    """A table through two embeddings and one layer, written again in NumPy."""
    spec = InputSpec("table", numeric=4, cardinalities=(3, 7))
    model = model_for("mlp", spec, depth=1, norm="none", embedding=5, activation="tanh").eval()
    batch = sample(spec)
    after = EmbeddingMixup(alpha=1.0)(batch, MOMENT)
    assert isinstance(after.inputs, dict)
    share = after.inputs["share"].double().numpy()
    numeric, category = (batch.inputs[key].numpy() for key in ("numeric", "category"))
    weights = {name: value.detach().double().numpy() for name, value in model.state_dict().items()}
    table = weights["columns.category.table.weight"]
    embedded = np.concatenate([numeric, table[category[:, 0]], table[3 + category[:, 1]]], 1).astype(np.float64)
    # Partners are told from the inputs themselves.
    partner = [int(np.flatnonzero((numeric == row).all(1))[0]) for row in after.inputs["partner.numeric"].numpy()]
    assert sorted(partner) == list(range(8))
    assert partner != list(range(8))
    mixture = share[:, None] * embedded + (1 - share[:, None]) * embedded[partner]
    hidden = np.tanh(mixture @ weights["layers.0.0.weight"].T + weights["layers.0.0.bias"])
    expected = hidden @ weights["head.weight"].T + weights["head.bias"]
    assert np.abs(model(after.inputs).detach().numpy() - expected).max() < 1e-5
    hot = np.eye(CLASSES)[batch.targets.numpy()]
    wanted = share[:, None] * hot + (1 - share[:, None]) * hot[partner]
    assert np.abs(after.targets.double().numpy() - wanted).max() < 1e-6
    assert batch.weight is not None
    weight = batch.weight.double().numpy()
    assert np.allclose(after.weight, share * weight + (1 - share) * weight[partner], atol=1e-6)


CASES = [
    ("tabular", TABLE), ("tabular", InputSpec("table", numeric=4, cardinalities=(3, 7))), ("mlp", TABLE),
    ("mlp", TEXT), ("bag", TEXT), ("bag", GRAMS), ("rnn", TEXT), ("lstm", TEXT), ("gru", GRAMS), ("transformer", TEXT),
]  # fmt: skip


@pytest.mark.parametrize(("name", "spec"), CASES, ids=lambda v: v if isinstance(v, str) else v.kind)
def test_every_model_named_mixes(name: str, spec: InputSpec) -> None:
    """A share of 1 is the sample, of 0 its partner, and between them the logits are neither."""
    model = model_for(name, spec).eval()
    inputs, partner = inputs_like(spec), torch.tensor([3, 0, 1, 2, 7, 4, 5, 6])
    own = model(inputs)

    def at(share: float) -> Tensor:
        images = {k: v for k, v in inputs.items() if k == "image"} if isinstance(inputs, dict) else {}
        rest = {k: v for k, v in inputs.items() if k != "image"} if isinstance(inputs, dict) else inputs
        made: Tensor = model({**with_partners(rest, partner, torch.full((8,), share)), **images})
        return made

    assert torch.allclose(at(1.0), own, atol=1e-6)
    if not spec.image:
        assert torch.allclose(at(0.0), own[partner], atol=1e-6)
    half = at(0.5)
    assert not torch.allclose(half, own, atol=1e-4)
    assert not torch.allclose(half, own[partner], atol=1e-4)
    linear = spec.kind == "text" and name != "mlp"  # nothing but the linear head lies behind the mixture
    assert torch.allclose(half, (own + own[partner]) / 2, atol=1e-6) == linear
    half.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_the_list_of_models_that_mix_is_whole() -> None:
    assert {name for name, _ in CASES} == set(MIXING)


def test_pieces_of_a_batch_give_what_the_whole_batch_gives() -> None:
    model = model_for("tabular", TABLE).eval()
    after = EmbeddingMixup(alpha=1.0)(sample(TABLE), MOMENT)
    whole = model(after.inputs)
    parts = torch.cat([model(piece.inputs) for piece in pieces(after, 3)])
    assert torch.allclose(parts, whole, atol=1e-6)


def test_images_are_mixed_as_pixels_on_their_own_scale() -> None:
    batch = sample(TABLE)
    after = EmbeddingMixup(alpha=1.0)(batch, MOMENT)
    assert isinstance(after.inputs, dict)
    assert isinstance(batch.inputs, dict)
    share, partner = draw(_place(), batch.index, 1.0, "sample")
    pixels = batch.inputs["image"].double()
    expected = share[:, None, None, None] * pixels + (1 - share[:, None, None, None]) * pixels[partner]
    assert (after.inputs["image"] - expected).abs().max() < 1e-3
    assert "partner.image" not in after.inputs


def _place() -> int:
    return keyed.key(MOMENT.seed, "embedding_mixup", MOMENT.step)


@pytest.mark.parametrize("spec", [TABLE, TEXT, GRAMS], ids=["table", "text", "grams"])
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("count", [1, 8])
def test_targets_sum_to_one_and_the_given_batch_is_left_alone(spec: InputSpec, soft: bool, count: int) -> None:
    batch = sample(spec, count, soft=soft)
    before = {k: v.clone() for k, v in batch.inputs.items()} if isinstance(batch.inputs, dict) else batch.inputs.clone()
    after = EmbeddingMixup(alpha=1.0)(batch, MOMENT)
    assert after.targets.shape == (count, CLASSES)
    assert (after.targets.double().sum(1) - 1).abs().max() < 1e-6
    assert after.weight is not None
    assert after.weight.shape == (count,)
    assert torch.equal(after.index, batch.index)
    same = EmbeddingMixup(alpha=1.0)(batch, MOMENT)
    assert isinstance(after.inputs, dict)
    assert isinstance(same.inputs, dict)
    for key, value in after.inputs.items():
        assert torch.equal(value, same.inputs[key])
        assert len(value) == count
    if isinstance(before, dict):
        assert isinstance(batch.inputs, dict)
        assert all(torch.equal(batch.inputs[key], value) for key, value in before.items())
    else:
        assert torch.equal(after.inputs[""], before)
    if count > 1:
        other = EmbeddingMixup(alpha=1.0)(batch, replace(MOMENT, step=18))
        assert not torch.equal(other.targets, after.targets)


def test_values_are_mixed_too_and_off_changes_nothing() -> None:
    batch = sample(TABLE)._replace(targets=torch.arange(8.0))
    after = EmbeddingMixup(alpha=1.0)(batch, replace(MOMENT, classes=0))
    assert after.targets.shape == (8,)
    assert not torch.equal(after.targets, batch.targets)
    assert EmbeddingMixup(until="10%")(batch, MOMENT) is batch
    assert mixed(lambda x: x["numeric"], batch.inputs) is batch.inputs["numeric"]


def test_models_that_do_not_mix_are_refused_by_name() -> None:
    assert EmbeddingMixup.refuses(TABLE, "tabular") == ""
    assert "not with 'hf:distilbert'" in EmbeddingMixup.refuses(TEXT, "hf:distilbert")
    plain = InputSpec("table", numeric=3)
    assert "use batch.mixup" in EmbeddingMixup.refuses(plain, "linear")


@pytest.mark.parametrize(
    ("wrong", "range_"), [({"alpha": 0.0}, "greater than 0"), ({"alpha": 101}, "less than or equal to 100")]
)
def test_settings_out_of_range_are_refused_with_the_range(wrong: dict[str, Any], range_: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=range_):
        EmbeddingMixup(**wrong)
