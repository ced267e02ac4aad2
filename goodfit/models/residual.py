"""Residual image nets: each block adds a correction to what comes in."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from goodfit.models.convolutional import image_shape
from goodfit.models.layers import Activation, Dropout, Norm, StochasticDepth, activation, norm, pixels, small_head
from goodfit.models.weights import GeneratorFor
from goodfit.technique import Chance, Count, Positive, technique
from goodfit.types import InputSpec

_BLOCKS = {8: (1, 1, 1), 14: (2, 2, 2), 20: (3, 3, 3), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


@technique("model")
class Resnet:
    """A residual network: each block adds a correction to what comes in; each stage is twice as wide and half as large.

    Formula: ``y = f(x + drop_path(branch(x)))``; where size or channels change, x passes a 1x1 convolution and norm.
    Source: He et al. (2016); where a bottleneck halves the size, its 3x3 does it (as torchvision's).
    Ours: depths 8, 14 and 20 have three stages (made for 32x32 images), 18, 34 and 50 four; 50 uses bottleneck blocks
        (1x1, 3x3, 1x1). The last norm of each branch starts at zero, so that every block starts as the identity (Goyal
        et al., 2017), and the weights inside a branch first move at the second step. Takes images.
    Helps: images, at depths where plain nets no longer train: the gradient passes by each branch. Hurts: few small
        images, where ``cnn`` is faster and as good.

    width: channels of the first stage; 64 for 18 and deeper, 32 below, unless given. stem: ``small`` (3x3),
    ``imagenet`` (7x7 stride 2 and max-pool), or by the image: imagenet from 96 pixels up. drop_path: stochastic depth
    of the last block; earlier ones less. slope: of ``leaky_relu``.
    """

    depth: Literal[8, 14, 18, 20, 34, 50] = 18
    width: Count | None = None
    stem: Literal["auto", "small", "imagenet"] = "auto"
    activation: Activation = "relu"
    norm: Norm = "batch"
    dropout: Chance = 0.0
    drop_path: Chance = 0.0
    slope: Positive = 0.01

    def build(self, spec: InputSpec, outputs: int) -> nn.Module:
        """The model for images like ``spec`` and ``outputs`` logits. Raises ModelError for any other input."""
        channels, height, width_of_image = image_shape("resnet", spec)
        stages = _BLOCKS[self.depth]
        width = self.width or (64 if len(stages) == 4 else 32)
        large = self.stem == "imagenet" or (self.stem == "auto" and min(height, width_of_image) >= 96)
        kernel, stride = (7, 2) if large else (3, 1)
        stem: list[nn.Module] = [
            nn.Conv2d(channels, width, kernel, stride=stride, padding=kernel // 2, bias=self.norm == "none"),
            norm(self.norm, width, dims=2),
            activation(self.activation, slope=self.slope),
        ]
        if large:
            stem.append(nn.MaxPool2d(3, stride=2, padding=1))
        blocks: list[Block] = []
        last, total = width, sum(stages)
        for stage, count in enumerate(stages):
            for number in range(count):
                block = Block(
                    last,
                    width * 2**stage,
                    stride=2 if stage > 0 and number == 0 else 1,
                    bottleneck=self.depth == 50,
                    kind=self.activation,
                    slope=self.slope,
                    norm_name=self.norm,
                    drop_path=self.drop_path * (len(blocks) + 1) / total,
                )
                last = block.channels
                blocks.append(block)
        return ResNet(stem, blocks, nn.Linear(last, outputs), dropout=self.dropout)


class ResNet(nn.Module):
    """Stem, blocks, mean over positions, head; see ``Resnet``."""

    def __init__(self, stem: list[nn.Module], blocks: list[Block], head: nn.Linear, *, dropout: float) -> None:
        super().__init__()
        self.stem = nn.Sequential(*stem)
        self.blocks = nn.Sequential(*blocks)
        self.dropout = Dropout(dropout)
        self.head = head

    def initialise(self, generator_for: GeneratorFor) -> None:
        """A small head: the first loss is near ln C."""
        small_head(self.head, generator_for("head.weight"))

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: ``(batch, channels, height, width)``. Returns logits ``(batch, outputs)``."""
        features = self.blocks(self.stem(pixels(inputs))).mean((2, 3))
        return torch.as_tensor(self.head(self.dropout(features)))


class Block(nn.Module):
    """One residual block: ``activation(shortcut(x) + branch(x))``.

    The shortcut is the identity, or a 1x1 convolution and norm where size or channels change.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        *,
        stride: int,
        bottleneck: bool,
        kind: str,
        slope: float,
        norm_name: str,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.channels = width * 4 if bottleneck else width
        bias = norm_name == "none"

        def conv(one: int, two: int, kernel: int, step: int = 1) -> list[nn.Module]:
            layer = nn.Conv2d(one, two, kernel, stride=step, padding=kernel // 2, bias=bias)
            return [layer, norm(norm_name, two, dims=2)]

        def active() -> nn.Module:
            return activation(kind, slope=slope)

        if bottleneck:
            branch = [*conv(inputs, width, 1), active(), *conv(width, width, 3, stride), active()]
            branch += conv(width, self.channels, 1)
        else:
            branch = [*conv(inputs, width, 3, stride), active(), *conv(width, width, 3)]
        self.branch = nn.Sequential(*branch)
        same = stride == 1 and inputs == self.channels
        self.shortcut: nn.Module = nn.Identity() if same else nn.Sequential(*conv(inputs, self.channels, 1, stride))
        self.drop_path = StochasticDepth(drop_path)
        self.activation = active()

    def initialise(self, generator_for: GeneratorFor) -> None:
        """The branch starts at zero: its last norm's weight, or its last convolution where there is no norm."""
        last = self.branch[-1] if hasattr(self.branch[-1], "weight") else self.branch[-2]
        nn.init.zeros_(last.get_parameter("weight"))

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: ``(batch, channels, height, width)``."""
        return torch.as_tensor(self.activation(self.shortcut(inputs) + self.drop_path(self.branch(inputs))))
