"""Convolutional image nets: a plain one of blocks, and a small one made for speed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from goodfit.errors import ModelError
from goodfit.models.layers import Activation, Dropout, Norm, activation, norm, pixels, small_head
from goodfit.models.weights import GeneratorFor, normal_
from goodfit.technique import Chance, Count, Positive, Share, technique
from goodfit.types import Inputs, InputSpec


@technique("model")
class Cnn:
    """A plain convolutional net: blocks of convolutions, norms, activations and a pooling; then the head.

    Formula: ``h <- f(norm(K * h))`` with 3x3 kernels K, ``convs`` times, then ``h <- max_pool(h)``, all of it ``depth``
        times, with twice the channels each time; ``logits = W mean(h) + b`` with the mean over positions.
    Source: LeCun et al. (1989, 1998); the arrangement: Simonyan and Zisserman (2015), with norms.
    Ours: a block leaves its pooling out once the image is a single pixel high or wide. The output is logits: softmax
        belongs to the loss, and one at the end of the net would be applied twice. Takes images.
    Often wrong: convolution is called translation invariant. It is equivariant: the map moves with the image; only
        pooling and the mean over positions make the outputs a little invariant.
    Helps: small images, few of them. Hurts: depths beyond ten layers, where ``resnet`` trains better.

    width: channels of the first block. depth: blocks. convs: convolutions a block. slope: of ``leaky_relu``.
    """

    width: Count = 32
    depth: Count = 3
    convs: Count = 2
    activation: Activation = "relu"
    norm: Norm = "batch"
    dropout: Chance = 0.0
    slope: Positive = 0.01

    def build(self, spec: InputSpec, outputs: int) -> nn.Module:
        """The model for images like ``spec`` and ``outputs`` logits. Raises ModelError for any other input."""
        channels, height, width_of_image = image_shape("cnn", spec)
        size = min(height, width_of_image)
        layers: list[nn.Module] = []
        for number in range(self.depth):
            wide = self.width * 2**number
            for _ in range(self.convs):
                layers += [
                    nn.Conv2d(channels, wide, 3, padding=1, bias=self.norm == "none"),
                    norm(self.norm, wide, dims=2),
                    activation(self.activation, slope=self.slope),
                ]
                channels = wide
            if size >= 2:
                layers.append(nn.MaxPool2d(2))
                size //= 2
        return ImageModel(nn.Sequential(*layers), nn.Linear(channels, outputs), dropout=self.dropout)


class ImageModel(nn.Module):
    """A convolutional body, the mean over positions, dropout, a linear head."""

    def __init__(self, body: nn.Module, head: nn.Linear, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.body = body
        self.dropout = Dropout(dropout)
        self.head = head

    def initialise(self, generator_for: GeneratorFor) -> None:
        """A small head: the first loss is near ln C."""
        small_head(self.head, generator_for("head.weight"))

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: ``(batch, channels, height, width)``. Returns logits ``(batch, outputs)``."""
        return torch.as_tensor(self.head(self.dropout(self.body(pixels(inputs)).mean((2, 3)))))


@technique("model")
class Fastnet:
    """A small, fast image net: whitened 2x2 patches, three blocks of two 3x3 convolutions, a scaled linear head.

    Formula: stem ``+-V^T patch / sqrt(e + whitening)`` with the eigenvectors V and variances e of the training images'
        patches; three blocks ``h <- f(norm(K2 * f(norm(max_pool(K1 * h)))))``; ``logits = scale W max(h)``, the largest
        value of each channel.
    Source: Jordan, "94% on CIFAR-10 in 3.29 seconds" (2024), after Page's "How to train your ResNet" (2018).
    Ours: the stem is computed from the training images (``fit_to``) and then frozen. Pooling comes first in a block, so
        that most work happens on small maps. BatchNorm has no scale of its own. Convolutions start as the identity on
        their first channels (Dirac). Images above 64 pixels get a coarser stem (4x4 patches, stride 4). Takes images.
    Helps: most accuracy for the time on thousands of small images. Hurts: few images, and large ones, where ``resnet``
        is better.

    width: channels of the first block. wider: later blocks are so many times wider. scale: of the logits, 1 / channels
    unless given, which goes with the head's first weights N(0, 1). momentum: share of the old running statistics that
    BatchNorm keeps at each step. whitening: added to the variances before they are divided by; larger for noisy images.
    """

    width: Count = 64
    wider: Count = 4
    depth: Count = 3
    activation: Activation = "gelu"
    scale: Positive | None = None
    momentum: Share = 0.8
    whitening: Positive = 5e-4

    def build(self, spec: InputSpec, outputs: int) -> nn.Module:
        """The model for images like ``spec`` and ``outputs`` logits. Raises ModelError for any other input."""
        channels, height, width_of_image = image_shape("fastnet", spec)
        size = min(height, width_of_image)
        patch, stride = (4, 4) if size > 64 else (min(2, size), 1)
        widths = [self.width] + [self.width * self.wider] * (self.depth - 1)
        return FastNet(
            channels,
            widths,
            outputs,
            patch=patch,
            stride=stride,
            size=(size - patch) // stride + 1,
            kind=self.activation,
            scale=self.scale or 1.0 / widths[-1],
            momentum=self.momentum,
            whitening=self.whitening,
        )


class FastNet(nn.Module):
    """Whitening stem, blocks, head; see ``Fastnet``."""

    def __init__(
        self,
        channels: int,
        widths: list[int],
        outputs: int,
        *,
        patch: int,
        stride: int,
        size: int,
        kind: str,
        scale: float,
        momentum: float,
        whitening: float,
    ) -> None:
        super().__init__()
        self.scale, self.whitening = scale, whitening
        components = channels * patch * patch
        self.stem = nn.Conv2d(channels, 2 * components, patch, stride=stride, bias=False)
        self.stem.weight.requires_grad = False
        self.activation = activation(kind)
        blocks: list[nn.Module] = []
        last = 2 * components
        for wide in widths:
            blocks.append(FastBlock(last, wide, pool=size >= 2, kind=kind, momentum=momentum))
            last, size = wide, size // 2 if size >= 2 else size
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(last, outputs, bias=False)

    def initialise(self, generator_for: GeneratorFor) -> None:
        """Dirac convolutions; a stem of single pixels in both signs until ``fit_to`` whitens it."""
        weight = self.stem.weight.detach()
        eye = torch.eye(len(weight) // 2).view(-1, *weight.shape[1:])
        weight.copy_(torch.cat([eye, -eye]))
        for module in self.blocks.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.dirac_(module.weight[: module.in_channels])
        normal_(self.head.weight, 1.0, generator=generator_for("head.weight"))

    @torch.no_grad()
    def fit_to(self, inputs: Inputs, targets: Tensor | None = None) -> None:
        """Whiten the stem: rows become the patches' principal directions over their standard deviation, in both signs.

        inputs: ``(samples, channels, height, width)`` prepared as in training. Formula: with the patch covariance ``C
        = V diag(e) V^T``, filters are ``+-V_i / sqrt(e_i + whitening)``, largest e first. It reads
        the first 4096 images. The same images give the same filters on one machine.
        """
        assert isinstance(inputs, Tensor)
        size, stride, channels = self.stem.kernel_size[0], self.stem.stride[0], self.stem.in_channels
        total, count = torch.zeros(channels * size * size, channels * size * size, dtype=torch.float64), 0
        for images in torch.split(inputs[:4096], 256):  # a few at a time: patches overlap, and take many times the room
            patches = pixels(images).float().cpu().unfold(2, size, stride).unfold(3, size, stride)
            flat = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, len(total)).double()
            total, count = total + flat.T @ flat, count + len(flat)
        values, vectors = torch.linalg.eigh(total / count)
        vectors = vectors * torch.where(vectors.sum(0) < 0, -1.0, 1.0)
        filters = (vectors / (values.clamp_min(0.0) + self.whitening).sqrt()).T.flip(0)
        weight = self.stem.weight
        weight.copy_(torch.cat([filters, -filters]).view(weight.shape))

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: ``(batch, channels, height, width)``. Returns logits ``(batch, outputs)``."""
        features = self.blocks(self.activation(self.stem(pixels(inputs))))
        return torch.as_tensor(self.head(features.amax((2, 3))) * self.scale)


class FastBlock(nn.Module):
    """Conv, max-pool, BatchNorm, activation, Conv, BatchNorm, activation."""

    def __init__(self, channels: int, width: int, *, pool: bool, kind: str, momentum: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()
        self.norm1 = nn.BatchNorm2d(width, momentum=1.0 - momentum)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width, momentum=1.0 - momentum)
        self.activation = activation(kind)
        self.norm1.weight.requires_grad = False
        self.norm2.weight.requires_grad = False

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: ``(batch, channels, height, width)``; half the height and width out."""
        half = self.activation(self.norm1(self.pool(self.conv1(inputs))))
        return torch.as_tensor(self.activation(self.norm2(self.conv2(half))))


def image_shape(name: str, spec: InputSpec) -> tuple[int, int, int]:
    """``(channels, height, width)`` of image inputs. Raises ModelError for any other kind."""
    if spec.kind != "image":
        raise ModelError(
            f"model '{name}' takes images, but the data is {spec.kind}; 'mlp' takes {spec.kind} as well"
            if spec.kind != "language"
            else f"model '{name}' takes images, but the data is language; use model.name = 'transformer'"
        )
    channels, height, width = spec.shape
    return channels, height, width
