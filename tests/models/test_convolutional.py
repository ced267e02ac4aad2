"""Image nets: whitening, identity at the start, sizes, and agreement with torchvision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from goodfit.models import build
from goodfit.models.convolutional import FastNet
from goodfit.techniques.init import Auto
from goodfit.types import InputSpec

SMALL = InputSpec("image", (3, 32, 32))


def test_the_stem_whitens_the_patches_it_was_fitted_to() -> None:
    mix = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    images = torch.randn(40, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    images = torch.einsum("ij,bjhw->bihw", mix, (images + images.roll(1, 2)))
    model = build("fastnet", {"width": 8, "whitening": 1e-9}, InputSpec("image", (3, 12, 12)), 2)
    assert isinstance(model, FastNet)
    Auto()(model, activation="gelu", seed=0)
    model.fit_to(images)
    made = model.stem(images).detach().double().numpy()[:, :12]
    flat = made.transpose(1, 0, 2, 3).reshape(12, -1)
    np.testing.assert_allclose(flat @ flat.T / flat.shape[1], np.eye(12), atol=1e-3)
    both = model.stem.weight.detach()
    assert torch.equal(both[12:], -both[:12])
    assert not model.stem.weight.requires_grad


def test_whitening_is_a_pure_function_of_the_images() -> None:
    images = torch.randint(0, 256, (30, 1, 8, 8), dtype=torch.uint8)
    stems = []
    for seed in (0, 1):
        model = build("fastnet", {"width": 8}, InputSpec("image", (1, 8, 8)), 2)
        Auto()(model, activation="gelu", seed=seed)
        model.fit_to(images)  # type: ignore[operator]
        stems.append(model.get_parameter("stem.weight"))
    assert torch.equal(stems[0], stems[1])


def test_fastnet_s_convolutions_start_as_the_identity_on_their_first_channels() -> None:
    model = build("fastnet", {"width": 32}, SMALL, 10)
    Auto()(model, activation="gelu", seed=0)
    conv = model.get_submodule("blocks.0.conv1")
    x = torch.randn(1, 24, 6, 6)
    torch.testing.assert_close(conv(x)[:, :24], x)


@pytest.mark.parametrize("name", ["cnn", "fastnet", "resnet"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 5), (1, 8, 8), (4, 28, 28), (3, 65, 90)])
def test_any_image_size_fits(name: str, shape: tuple[int, int, int]) -> None:
    settings = {"width": 8} | ({"depth": 8} if name == "resnet" else {})
    model = build(name, settings, InputSpec("image", shape), 3).eval()
    assert model(torch.randn(2, *shape)).shape == (2, 3)


@pytest.mark.parametrize(
    ("depth", "theirs"),
    [(18, torchvision.models.resnet18), (34, torchvision.models.resnet34), (50, torchvision.models.resnet50)],
)
def test_a_resnet_is_torchvision_s_up_to_names(depth: int, theirs: type[nn.Module]) -> None:
    ours = build("resnet", {"depth": depth, "stem": "imagenet"}, InputSpec("image", (3, 64, 64)), 7).eval()
    other = theirs(num_classes=7, weights=None).eval()
    from_shape = sorted(tuple(p.shape) for p in ours.state_dict().values())
    assert from_shape == sorted(tuple(p.shape) for p in other.state_dict().values())
    # Their blocks hold branch then shortcut, in the same order as ours.
    mapped = dict(zip(ours.state_dict(), other.state_dict().values(), strict=True))
    ours.load_state_dict(mapped)
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours(x), other(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("depth", "weighted"), [(8, 8), (14, 14), (20, 20), (18, 18), (34, 34), (50, 50)])
def test_a_resnet_s_depth_counts_its_weighted_layers(depth: int, weighted: int) -> None:
    model = build("resnet", {"depth": depth, "width": 8}, SMALL, 10)
    layers = [k for k, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear)) and "shortcut" not in k]
    assert len(layers) == weighted


@pytest.mark.parametrize("norm", ["batch", "group", "layer", "rms", "none"])
def test_every_residual_block_starts_as_its_shortcut(norm: str) -> None:
    model = build("resnet", {"depth": 8, "width": 8, "norm": norm}, SMALL, 10)
    Auto()(model, activation="relu", seed=0)
    block = model.get_submodule("blocks.0")
    x = torch.rand(2, 8, 6, 6)
    torch.testing.assert_close(block(x), x)


@pytest.mark.parametrize(("size", "stride"), [(32, 1), (95, 1), (96, 2), (224, 2)])
def test_the_stem_follows_the_size_of_the_images(size: int, stride: int) -> None:
    model = build("resnet", {"depth": 18, "width": 8}, InputSpec("image", (3, size, size)), 2)
    conv = model.get_submodule("stem.0")
    assert isinstance(conv, nn.Conv2d)
    assert conv.stride == (stride, stride)
