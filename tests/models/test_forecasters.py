"""Forecasters against their formulas in NumPy."""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import erf

from goodfit.models import build
from goodfit.models.series import DLinear, SeasonalModel
from goodfit.types import InputSpec


def test_dlinear_is_its_formula() -> None:
    model = build("dlinear", {"window": 4, "centre": False}, InputSpec("series", (9, 2)), 3).double()
    assert isinstance(model, DLinear)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    x = np.random.default_rng(0).normal(size=(9, 2))
    padded = np.concatenate([x[:1], x, x[-1:]])
    trend = np.stack([padded[i : i + 3].mean(0) for i in range(9)])
    weights = {k: v.detach().numpy() for k, v in model.named_parameters()}
    expected = weights["trend.weight"] @ trend.T.ravel() + weights["trend.bias"]
    expected = expected + weights["remainder.weight"] @ (x - trend).T.ravel() + weights["remainder.bias"]
    np.testing.assert_allclose(model(torch.from_numpy(x)[None])[0].detach().numpy(), expected, rtol=1e-9)


def test_a_centred_forecast_follows_a_level_never_seen() -> None:
    model = build("dlinear", {}, InputSpec("series", (20, 2)), 4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    x = torch.randn(5, 20, 2)
    lifted = x.clone()
    lifted[:, :, 0] += 100.0
    torch.testing.assert_close(model(lifted), model(x) + 100.0, rtol=1e-4, atol=1e-3)
    fresh = build("dlinear", {"window": 5}, InputSpec("series", (20, 2)), 4)
    torch.testing.assert_close(fresh(x)[:, 0], x[:, -5:, 0].mean(1))


def seasonal(lookback: int, horizon: int, *, anchor: bool) -> tuple[SeasonalModel, np.ndarray]:
    spec = InputSpec("series", (lookback, 2 + 2 * 4), numeric=2)
    model = build("seasonal", {"members": 3, "width": 5, "anchor": anchor}, spec, horizon).double().eval()
    assert isinstance(model, SeasonalModel)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model, np.random.default_rng(0).normal(size=(lookback, 10))


def test_the_seasonal_forecast_is_its_formula() -> None:
    for anchor in (False, True):
        model, x = seasonal(7, 3, anchor=anchor)
        w = {k: v.detach().numpy() for k, v in model.named_parameters()}
        made = model(torch.from_numpy(x)[None])[0].detach().numpy()
        here, ahead = x[:, 2:6], x[-3:, 6:]
        for member in range(3):
            season, level = w["season"][member], w["level"][member, 0, 0]
            a = x[:, 0] - (here @ season + level)
            last = a[-1] if anchor else 0.0
            past = np.r_[a - last, x[:, 1]]
            inner = np.r_[past, ahead[0]] @ w["inner"][member] + w["inner_bias"][member, 0]
            hidden = inner * 0.5 * (1 + erf(inner / np.sqrt(2)))
            expected = ahead @ season + level + last + past @ w["linear"][member] + hidden @ w["head"][member]
            np.testing.assert_allclose(made[member], expected, rtol=1e-8)


def test_a_window_shorter_than_the_horizon_still_gives_a_forecast_for_every_step() -> None:
    model, x = seasonal(4, 6, anchor=False)
    assert model(torch.from_numpy(x)[None]).shape == (1, 3, 6)


def test_the_profile_of_a_pure_season_is_learned_exactly() -> None:
    time = np.arange(400)
    turns = np.stack([np.sin(2 * np.pi * time / 25), np.cos(2 * np.pi * time / 25)], 1)
    values = 1.5 * turns[:, 0] - 0.5 * turns[:, 1] + 2.0
    origins = np.arange(5, 390)
    past = origins[:, None] + np.arange(-5, 0)
    rows = np.concatenate([values[past][..., None], turns[past], turns[past + 3]], 2)
    inputs = torch.from_numpy(rows).float()
    targets = torch.from_numpy(values[origins[:, None] + np.arange(3)]).float()
    model = build("seasonal", {"members": 2, "dropout": 0}, InputSpec("series", (5, 5), numeric=1), 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        loss = (model(inputs) - targets[:, None]).square().mean()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 1e-3
