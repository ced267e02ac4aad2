"""Non-linearities by name: what stands between two linear layers, without which they would be one.

``slope`` below is the derivative; a sum of many inputs scaled by 1 / sqrt(E[f(z)^2]) keeps its size from layer to layer
(see ``goodfit.models.weights``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import nn

from goodfit.errors import ModelError, nearest

Activation = Literal["relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh", "mish"]
"""Non-linearities by name. ``gelu`` is exact (x times the normal distribution function), ``gelu_tanh`` its tanh
form."""


def activation(name: str, *, slope: float = 0.01) -> nn.Module:
    """A non-linearity by name. slope: of ``leaky_relu`` for negative inputs.

    Raises ModelError for an unknown name, with the nearest right one.
    """
    if name == "leaky_relu":
        return leaky_relu(slope)
    if name not in ACTIVATIONS:
        raise ModelError(f"unknown activation '{name}'{nearest(name, ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def relu() -> nn.Module:
    """Keeps positive numbers and sets negative ones to zero.

    Formula: ``max(x, 0)``; slope 0 or 1 (at zero: 0). Range [0, inf).
    Source: Nair and Hinton (2010); Glorot, Bordes and Bengio (2011).
    Helps: nearly everywhere, the cheapest there is. Hurts: a unit whose sum is negative for every sample gets no
        gradient and stays dead; ``leaky_relu``, ``elu`` or ``gelu`` keep it alive. Weights: ``he_normal``.
    """
    return nn.ReLU()


def leaky_relu(slope: float = 0.01) -> nn.Module:
    """A ReLU that lets a small share of negative numbers through, so that no unit dies.

    Formula: ``x`` for x >= 0, else ``slope * x``; its slope is ``model.slope`` (0.01 unless said) or 1. Range all
        numbers.
    Source: Maas, Hannun and Ng (2013).
    Helps: where many units of a ReLU net are dead. Hurts: hardly anything; rarely better than ``gelu``.
    """
    return nn.LeakyReLU(slope)


def elu() -> nn.Module:
    """A ReLU that bends smoothly to -1 for negative numbers, so that outputs have a mean nearer to zero.

    Formula: ``x`` for x > 0, else ``exp(x) - 1`` (alpha = 1); slope in (0, 1]. Range (-1, inf).
    Source: Clevert, Unterthiner and Hochreiter (2016).
    Helps: nets without norms. Hurts: the exponential costs more than a ReLU; beside norms it gains nothing.
    """
    return nn.ELU()


def gelu() -> nn.Module:
    """A smooth ReLU: each number times the chance that a normal number is smaller. The exact form.

    Formula: ``x Phi(x)`` with the normal distribution function ``Phi(x) = (1 + erf(x / sqrt(2))) / 2``. Range
        [-0.16997, inf), smallest at x = -0.7518.
    Source: Hendrycks and Gimpel (2016).
    Often wrong: two functions go by this name; BERT and PyTorch's default are this one, GPT-2 is ``gelu_tanh``. They
        differ by 5e-4 at most: enough to change a pretrained model's outputs, not its worth.
    Helps: transformers and modern convolutional nets. Hurts: a little slower than ReLU.
    """
    return nn.GELU()


def gelu_tanh() -> nn.Module:
    """The tanh form of GELU, which was faster once.

    Formula: ``x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))``.
    Source: Hendrycks and Gimpel (2016); GPT-2.
    Helps: weights that were trained with it. Hurts: nothing to gain otherwise; ``gelu`` is exact.
    """
    return nn.GELU(approximate="tanh")


def silu() -> nn.Module:
    """A smooth ReLU: each number times its own sigmoid. Also called swish.

    Formula: ``x / (1 + exp(-x))``. Range [-0.27846, inf), smallest at x = -1.27846.
    Source: Elfwing, Uchibe and Doya (2018); Ramachandran, Zoph and Le (2017).
    Helps: EfficientNets, SwiGLU. Hurts: a little slower than ReLU.
    """
    return nn.SiLU()


def sigmoid() -> nn.Module:
    """Squeezes every number into (0, 1).

    Formula: ``1 / (1 + exp(-x))``. Range (0, 1), both ends open: no finite number reaches them, though float32 rounds
        to 1 above 17. Slope ``s (1 - s)`` in (0, 0.25], 0.25 at zero.
    Often wrong: the range written as [0, 1] and the slope as [0, 0.25].
    Helps: gates, and the probability of two classes, where binary cross-entropy applies it itself (models give
        logits). Hurts: hidden layers of deep nets: n of them scale gradients by 0.25^n at most times the weights.
        Pre-flight measures it (rule ``saturating-layers``). Weights: ``xavier_uniform``.
    """
    return nn.Sigmoid()


def tanh() -> nn.Module:
    """Squeezes every number into (-1, 1); zero stays zero.

    Formula: ``(exp(x) - exp(-x)) / (exp(x) + exp(-x)) = 2 sigmoid(2 x) - 1``. Range (-1, 1), both ends open; slope
        ``1 - tanh(x)^2`` in (0, 1], one only at zero.
    Helps: recurrent states and bounded outputs. Hurts: deep nets without norms, as its slope falls below one
        everywhere but at zero. Weights: ``xavier_uniform``.
    """
    return nn.Tanh()


def mish() -> nn.Module:
    """A smooth ReLU: each number times the tanh of its softplus.

    Formula: ``x tanh(ln(1 + exp(x)))``. Range [-0.30884, inf), smallest at x = -1.19241.
    Source: Misra (2020).
    Helps: where ``silu`` does. Hurts: the slowest of these.
    """
    return nn.Mish()


def softmax() -> nn.Module:
    """Turns a row of logits into probabilities that sum to one: the output of a classifier, never a layer before the
    loss.

    Formula: ``p_i = exp(z_i - m) / sum_j exp(z_j - m)`` with ``m = max_j z_j``, which changes nothing but keeps the
        exponentials finite. Adding one number to all logits leaves it as it is.
    Ours: models give logits; cross-entropy applies ``log_softmax`` itself, ``run.predict`` gives probabilities.
    Often wrong: a network drawn with a softmax at its end and trained with ``CrossEntropyLoss`` applies it twice; the
        loss then cannot fall below ``ln(1 + (C - 1) / e)``, 1.461 for 10 classes. Softmax and logarithm one after the
        other overflow at a logit gap near 104 in float32; log-sum-exp does not. Pre-flight finds the first (rule
        ``softmax-before-cross-entropy``).
    """
    return nn.Softmax(-1)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": relu,
    "leaky_relu": leaky_relu,
    "elu": elu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "silu": silu,
    "sigmoid": sigmoid,
    "tanh": tanh,
    "mish": mish,
}
