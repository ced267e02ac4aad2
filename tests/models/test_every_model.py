"""The contract every model keeps, whatever it is made of."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from goodfit.errors import ModelError, RecipeError
from goodfit.models import MODELS, build, fit_to
from goodfit.models.external import PREFIXES
from goodfit.models.layers import nonlinearity_of
from goodfit.technique import settings_of
from goodfit.techniques.init import Auto
from goodfit.types import Inputs, InputSpec

SPECS = {
    "image": InputSpec("image", (3, 16, 16)),
    "table": InputSpec("table", numeric=4, cardinalities=(3, 40)),
    "mixed table": InputSpec("table", (), 2, (3,), 30, 6, (3, 12, 12)),
    "text": InputSpec("text", (9,), vocabulary=30),
    "text with n-grams": InputSpec("text", (17,), cardinalities=(30, 20, 25), vocabulary=75, length=9),
    "language": InputSpec("language", (9,), vocabulary=30),
    "sequence": InputSpec("sequence", (9, 9), cardinalities=(25, 30), vocabulary=25, length=9),
    "series": InputSpec("series", (12, 2)),
    "dated series": InputSpec("series", (12, 6), numeric=2),
    "tensor": InputSpec("tensor", (3, 5)),
}
SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"width": 32},
    "tabular": {"width": 32},
    "cnn": {"width": 8},
    "fastnet": {"width": 16},
    "resnet": {"depth": 8, "width": 8},
    "rnn": {"width": 16},
    "lstm": {"width": 16},
    "gru": {"width": 16},
    "transformer": {"width": 32, "depth": 2},
    "transformer_encdec": {"width": 32, "depth": 2},
    "bag": {"buckets": 500},
}
NAMED = [kind.name for kind in MODELS if f"{kind.name}:" not in PREFIXES]
OUTPUTS = 5


def _takes(name: str, spec: InputSpec) -> bool:
    try:
        build(name, SMALL.get(name, {}), spec, OUTPUTS)
    except ModelError:
        return False
    return True


CASES = [(name, kind) for name in NAMED for kind, spec in SPECS.items() if _takes(name, spec)]
every = pytest.mark.parametrize(("name", "kind"), CASES)


def outputs_of(kind: str) -> int:
    return 30 if kind in ("language", "sequence") else OUTPUTS


def made(name: str, kind: str, seed: int = 0, **settings: Any) -> nn.Module:
    model = build(name, {**SMALL.get(name, {}), **settings}, SPECS[kind], outputs_of(kind))
    Auto()(model, activation=nonlinearity_of(model), seed=seed)
    fit_to(model, inputs_for(name, kind, 64), torch.arange(64) % OUTPUTS)
    return model


def inputs_for(name: str, kind: str, batch: int = 6, seed: int = 0) -> Inputs:
    spec, draw = SPECS[kind], torch.Generator().manual_seed(seed)
    if spec.kind == "table":
        columns = {
            "numeric": torch.randn(batch, spec.numeric, generator=draw),
            "category": torch.stack([torch.randint(0, c, (batch,), generator=draw) for c in spec.cardinalities], 1),
        }
        columns["numeric"][::2, 0] = 0.5  # a value that many samples share
        if spec.length:
            columns["tokens"] = torch.randint(0, spec.vocabulary, (batch, spec.length), generator=draw)
            columns["image"] = torch.randint(0, 256, (batch, *spec.image), generator=draw, dtype=torch.uint8)
        return columns
    if spec.kind == "sequence":
        target = torch.randint(1, 30, (batch, 9), generator=draw)
        source = torch.randint(1, 25, (batch, 9), generator=draw)
        lengths = torch.randint(1, 10, (batch, 1), generator=draw)
        return {"source": source * (torch.arange(9) < lengths), "target": target}
    if spec.kind in ("text", "language"):
        tokens = torch.randint(1, spec.vocabulary, (batch, *spec.shape), generator=draw)
        if spec.kind == "text":
            lengths = torch.randint(1, spec.shape[0] + 1, (batch, 1), generator=draw)
            tokens = tokens * (torch.arange(spec.shape[0]) < lengths)
        if spec.cardinalities:
            grams = torch.stack([torch.randperm(45, generator=draw)[:8] for _ in range(batch)]) + 30
            tokens = torch.cat([tokens[:, :9] % 30, grams], 1)
        return tokens
    return torch.randn(batch, *spec.shape, generator=draw)


def pick(inputs: Inputs, rows: Any) -> Inputs:
    return {k: v[rows] for k, v in inputs.items()} if isinstance(inputs, dict) else inputs[rows]


def change(inputs: Inputs, row: int) -> Inputs:
    """Other values in one row."""
    changed = copy.deepcopy(inputs)
    for value in changed.values() if isinstance(changed, dict) else [changed]:
        if value.is_floating_point():
            value[row] = -2.0 * value[row] + 1.0
        elif value.dtype == torch.uint8:
            value[row] = 255 - value[row]
        else:
            value[row] = torch.where(value[row] > 0, 3 - value[row].clamp_max(2), value[row])
    return changed


def loss_of(logits: Tensor, kind: str) -> Tensor:
    classes = logits.shape[-1]
    flat = logits.reshape(-1, classes)
    targets = torch.arange(len(flat)) * 7 % classes
    return F.cross_entropy(flat, targets)


@every
def test_gives_logits_of_the_shape_the_contract_names(name: str, kind: str) -> None:
    model, inputs = made(name, kind), inputs_for(name, kind)
    logits = model(inputs)
    members = getattr(model, "members", 0)
    expected: tuple[int, ...] = (6, members, OUTPUTS) if members else (6, OUTPUTS)
    if kind in ("language", "sequence"):
        expected = (6, 9, 30)
    assert tuple(logits.shape) == expected
    assert logits.isfinite().all()


@every
def test_takes_a_batch_of_one_in_eval_mode_and_gives_the_same_as_in_company(name: str, kind: str) -> None:
    model, inputs = made(name, kind).eval(), inputs_for(name, kind)
    together = model(inputs)
    alone = model(pick(inputs, slice(2, 3)))
    torch.testing.assert_close(alone, together[2:3], rtol=1e-4, atol=1e-5)


@every
def test_no_sample_sees_another_in_eval_mode(name: str, kind: str) -> None:
    model, inputs = made(name, kind).eval(), inputs_for(name, kind)
    with torch.no_grad():
        for parameter in model.parameters():  # whatever starts at zero must not hide a leak
            parameter += 0.01
    before, after = model(inputs), model(change(inputs, 1))
    torch.testing.assert_close(before[[0, 2, 3, 4, 5]], after[[0, 2, 3, 4, 5]], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(before[1], after[1])


@every
def test_a_gradient_reaches_every_parameter_that_learns(name: str, kind: str) -> None:
    model = made(name, kind).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    reached: set[str] = set()
    for seed in range(4):  # what lies behind a branch that starts at zero is reached at the second step
        optimizer.zero_grad()
        loss_of(model(inputs_for(name, kind, 32, seed)), kind).backward()
        for key, parameter in model.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None, key
                assert parameter.grad.isfinite().all(), key
                reached |= {key} if parameter.grad.abs().sum() > 0 else set()
        optimizer.step()
    wanted = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    assert wanted == reached


@every
def test_the_first_loss_is_near_that_of_knowing_nothing(name: str, kind: str) -> None:
    if name == "dlinear":
        pytest.skip("a forecast starts at the level of its input")
    model = made(name, kind).eval()
    loss = loss_of(model(inputs_for(name, kind, 64)), kind).detach()
    tolerance = 0.35 if name in ("tabular", "fastnet") else 0.12
    assert abs(float(loss) - math.log(outputs_of(kind))) < tolerance


@every
def test_weights_survive_a_round_trip_through_the_state_dict(name: str, kind: str) -> None:
    model, other = made(name, kind, 1).eval(), build(name, SMALL.get(name, {}), SPECS[kind], outputs_of(kind)).eval()
    other.load_state_dict(model.state_dict())
    inputs = inputs_for(name, kind)
    torch.testing.assert_close(model(inputs), other(inputs), rtol=0, atol=0)


@every
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(name: str, kind: str) -> None:
    one, two, three = made(name, kind, 1), made(name, kind, 1), made(name, kind, 2)
    same = [torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True)]
    assert all(same)
    if name not in ("dlinear", "bag"):  # these start at zero: they have no hidden layer
        assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), three.parameters(), strict=True))


@every
def test_every_parameter_is_initialised(name: str, kind: str) -> None:
    """Parameters poisoned before initialisation are all healthy after it."""
    model = build(name, SMALL.get(name, {}), SPECS[kind], outputs_of(kind))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
    Auto()(model, activation="relu", seed=0)
    fit_to(model, inputs_for(name, kind, 64))
    left = [key for key, parameter in model.named_parameters() if not parameter.isfinite().all()]
    assert left == []


@every
@pytest.mark.filterwarnings("ignore:In CPU autocast")
def test_runs_in_bf16_autocast_and_agrees_with_fp32(name: str, kind: str) -> None:
    model, inputs = made(name, kind).eval(), inputs_for(name, kind)
    exact = model(inputs)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(inputs)
    torch.testing.assert_close(rough.float(), exact, rtol=0.1, atol=0.1)
    model.train()
    with torch.autocast("cpu", torch.bfloat16):
        loss_of(model(inputs).float(), kind).backward()


@pytest.mark.parametrize("name", [name for name, kind in CASES if kind == "image"])
def test_image_models_agree_in_channels_last(name: str) -> None:
    model, inputs = made(name, "image").eval(), inputs_for(name, "image")
    assert isinstance(inputs, Tensor)
    exact = model(inputs)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    other = model(inputs.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(other, exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["linear", "rnn", "lstm", "gru", "transformer", "transformer_encdec"])
def test_language_models_do_not_see_the_future(name: str) -> None:
    kind = "sequence" if name == "transformer_encdec" else "language"
    model = made(name, kind).eval()
    inputs = inputs_for(name, kind)
    later = copy.deepcopy(inputs)
    tokens = later["target"] if isinstance(later, dict) else later
    tokens[:, 5:] = tokens[:, 5:] % 29 + 1
    first, second = model(inputs), model(later)
    torch.testing.assert_close(first[:, :5], second[:, :5], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(first[:, 5:], second[:, 5:])


@pytest.mark.parametrize("name", [name for name, kind in CASES if kind == "text"])
def test_padding_at_the_end_of_a_text_changes_nothing(name: str) -> None:
    model = made(name, "text").eval()
    short = torch.tensor([[4, 7, 9, 2, 11]])
    padded = torch.cat([short, torch.zeros(1, 4, dtype=torch.int64)], 1)
    company = torch.cat([padded, torch.arange(1, 10)[None]])
    torch.testing.assert_close(model(short), model(padded), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model(short), model(company)[:1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name, kind in CASES if kind == "text"])
def test_a_text_of_padding_alone_gives_finite_logits(name: str) -> None:
    logits = made(name, "text").eval()(torch.zeros(2, 9, dtype=torch.int64))
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", NAMED)
def test_refuses_what_it_does_not_take_with_what_it_takes(name: str) -> None:
    refused = [kind for kind in SPECS if (name, kind) not in CASES]
    for kind in refused:
        with pytest.raises(ModelError, match=rf"model '{name}' takes .*"):
            build(name, SMALL.get(name, {}), SPECS[kind], OUTPUTS)


@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.name)
def test_settings_are_plain_values_with_a_page(kind: Any) -> None:
    values = settings_of(kind())
    assert all(isinstance(value, (int, float, str, bool)) for value in values.values())
    assert kind.__doc__
    assert kind.slot == "model"


def test_an_unknown_name_answers_with_the_nearest() -> None:
    with pytest.raises(ModelError, match="did you mean 'resnet'"):
        build("resnt", {}, SPECS["image"], 2)
    with pytest.raises(ModelError, match="unknown model 'timm'"):
        build("timm", {}, SPECS["image"], 2)


def test_wrong_settings_are_reported_together_with_the_nearest_key() -> None:
    with pytest.raises(RecipeError) as error:
        build("mlp", {"widht": 3, "dropout": 1.5, "norm": "bach"}, SPECS["tensor"], 2)
    text = " ".join(error.value.problems)
    assert len(error.value.problems) == 3
    assert "did you mean 'width'" in text
    assert "model.dropout = 1.5: should be less than 1" in text
