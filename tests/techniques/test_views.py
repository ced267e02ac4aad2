from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from goodfit.loop import predict
from goodfit.techniques.views import averaged
from goodfit.types import Tensors

VIEWS = ("none", "flip", "shift", "flip_shift")


class Weighed(nn.Module):
    """Logits that are not linear in the pixels, so that every view counts."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weights = nn.Parameter(torch.randn(2 * 5 * 6, 3, generator=generator, dtype=torch.float64).float())

    def forward(self, images: Tensor) -> Tensor:
        return (images.flatten(1) @ self.weights).square()


def images(count: int = 4) -> Tensor:
    return torch.randn(count, 2, 5, 6, generator=torch.Generator().manual_seed(1))


def by_hand(model: Weighed, pixels: np.ndarray[Any, Any], views: str) -> np.ndarray[Any, Any]:
    """The same in NumPy and float64, one view at a time."""
    weights = model.weights.detach().double().numpy()

    def logits(one: np.ndarray[Any, Any]) -> Any:
        return (one.reshape(len(one), -1) @ weights) ** 2

    padded = np.pad(pixels, [(0, 0), (0, 0), (1, 1), (1, 1)], mode="reflect")
    places = [(pixels, 1.0)]
    if "shift" in views:
        places = [(pixels, 0.5), (padded[:, :, :5, :6], 0.25), (padded[:, :, 2:7, 2:8], 0.25)]
    total = 0.0
    for one, share in places:
        total = total + share * ((logits(one) + logits(one[..., ::-1])) / 2 if "flip" in views else logits(one))
    return np.asarray(total)


@pytest.mark.parametrize("views", VIEWS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_logits_are_the_mean_over_the_views(views: Any, layout: torch.memory_format) -> None:
    model, pixels = Weighed(), images()
    with torch.no_grad():
        found = averaged(model, pixels.contiguous(memory_format=layout), views)
    assert np.allclose(found.numpy(), by_hand(model, pixels.double().numpy(), views), rtol=1e-4)


def test_the_mean_is_of_logits_not_of_probabilities() -> None:
    model, pixels = Weighed(), images()
    with torch.no_grad():
        found = averaged(model, pixels, "flip").softmax(1)
        other = (model(pixels).softmax(1) + model(pixels.flip(-1)).softmax(1)) / 2
    assert not torch.allclose(found, other, atol=1e-3)


@pytest.mark.parametrize("views", VIEWS)
def test_predict_takes_views(views: Any) -> None:
    model, pixels = Weighed(), images(7)
    part = Tensors(pixels, torch.zeros(7).long(), torch.arange(7))
    found = predict(model, part, lambda x: x, precision="fp32", device=torch.device("cpu"), batch_size=3, views=views)
    assert np.allclose(found.numpy(), by_hand(model, pixels.double().numpy(), views), rtol=1e-4)


@pytest.mark.parametrize("views", VIEWS)
def test_what_is_no_image_has_one_view(views: Any) -> None:
    table = {"numeric": torch.ones(2, 3)}
    assert averaged(lambda inputs: inputs["numeric"], table, views) is table["numeric"]
    rows = torch.ones(2, 3)
    assert averaged(lambda inputs: inputs, rows, views) is rows


def test_one_pixel_cannot_be_moved() -> None:
    pixels = torch.ones(2, 1, 1, 4)
    assert torch.equal(averaged(lambda x: x, pixels, "shift"), pixels)
