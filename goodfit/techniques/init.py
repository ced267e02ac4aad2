"""Initial weights: where training starts, made from the seed and each parameter's own name.

Because a weight's random numbers depend on ``(seed, "init", name)`` alone, two models that share a layer's name and
shape share its weights, whatever else they hold, and a comparison of two recipes starts from the same point.

``fan_in`` is the number of inputs that one output sums over (for a convolution: channels times kernel size),
``fan_out`` the number of outputs one input feeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from goodfit.errors import ModelError
from goodfit.models.weights import Rule, gain, initialise, normal_, orthogonal_, uniform_
from goodfit.technique import Positive, technique


@technique("init", name="xavier_uniform")
class XavierUniform:
    """Uniform weights whose variance balances the forward and the backward pass. Also called Glorot's.

    Formula: ``U(-a, a)`` with ``a = gain * sqrt(6 / (fan_in + fan_out))``; standard deviation ``gain * sqrt(2 /
        (fan_in + fan_out))``.
    Source: Glorot and Bengio (2010), who call it normalised initialisation.
    Often wrong: some texts write N(0, 1 / fan_in) under this name, which is ``lecun_normal`` here; and PyTorch's own
        default for Linear is neither: U(-a, a) with a = 1 / sqrt(fan_in), standard deviation 0.577 / sqrt(fan_in), a
        third of LeCun's variance (``init.name = "keep"`` keeps it).
    Helps: tanh and sigmoid. Hurts: deep ReLU networks, whose activations shrink by sqrt(2) per layer; use
        ``he_normal``.
    """

    gain: Positive = 1.0

    def __call__(self, model: nn.Module, *, activation: str, seed: int) -> None:
        """Fill ``model`` in place; ``activation`` is not used."""
        initialise(model, _uniform(lambda fan_in, fan_out: self.gain * math.sqrt(2.0 / (fan_in + fan_out))), seed=seed)


@technique("init", name="xavier_normal")
class XavierNormal:
    """Normal weights whose variance balances the forward and the backward pass. Also called Glorot's.

    Formula: ``N(0, s^2)`` with ``s = gain * sqrt(2 / (fan_in + fan_out))``.
    Source: Glorot and Bengio (2010).
    Helps: tanh and sigmoid. Hurts: deep ReLU networks, as ``xavier_uniform`` does.
    """

    gain: Positive = 1.0

    def __call__(self, model: nn.Module, *, activation: str, seed: int) -> None:
        """Fill ``model`` in place; ``activation`` is not used."""
        initialise(model, _normal(lambda fan_in, fan_out: self.gain * math.sqrt(2.0 / (fan_in + fan_out))), seed=seed)


@technique("init", name="he_normal")
class HeNormal:
    """Normal weights that keep the mean square of activations at one through any depth. Also called Kaiming's.

    Formula: ``N(0, s^2)`` with ``s = g / sqrt(fan_in)``; g = sqrt(2) for ReLU.
    Source: He et al. (2015).
    Ours: g is 1 / sqrt(E[f(z)^2]) for the activation f in use, which is He's own argument; for ReLU it is the same.
    Helps: ReLU and its relatives. Hurts: where f is not homogeneous (GELU, SiLU, tanh) the scale holds near one only,
        and drifts over tens of layers without norms.
    """

    def __call__(self, model: nn.Module, *, activation: str, seed: int) -> None:
        """Fill ``model`` in place. activation: a name of ``GAINS``."""
        initialise(model, _he_normal(activation), seed=seed)


@technique("init", name="he_uniform")
class HeUniform:
    """Uniform weights that keep the mean square of activations at one through any depth. Also called Kaiming's.

    Formula: ``U(-a, a)`` with ``a = g * sqrt(3 / fan_in)``; g = sqrt(2) for ReLU.
    Source: He et al. (2015).
    Ours: g fits the activation, as in ``he_normal``.
    Helps: ReLU and its relatives; no weight is far out. Hurts: as ``he_normal``.
    """

    def __call__(self, model: nn.Module, *, activation: str, seed: int) -> None:
        """Fill ``model`` in place. activation: a name of ``GAINS``."""
        scale = gain(activation)
        initialise(model, _uniform(lambda fan_in, fan_out: scale / math.sqrt(fan_in)), seed=seed)


@technique("init", name="lecun_normal")
class LecunNormal:
    """Normal weights that keep the variance of sums at one.

    Formula: ``N(0, 1 / fan_in)``.
    Source: LeCun et al. (1998).
    Helps: SELU, linear layers after a norm. Hurts: deep ReLU networks, whose mean square halves with each layer.
    """

    def __call__(self, model: nn.Module, *, activation: str, seed: int) -> None:
        """Fill ``model`` in place; ``activation`` is not used."""
        initialise(model, _normal(lambda fan_in, fan_out: 1.0 / math.sqrt(fan_in)), seed=seed)


@technique("init", name="orthogonal")
class Orthogonal:
    """Weights whose rows (or columns, whichever are fewer) are orthogonal, so that lengths are kept exactly.

    Formula: Q of the QR decomposition of a normal matrix, signs made uniform by the diagonal of R, times the
        activation's gain.
    Source: Saxe et al. (2014).
    Ours: a convolution is seen as the matrix ``(outputs, inputs * kernel)``.
    Helps: recurrent weights and very deep nets without norms. Hurts: a QR decomposition per weight, seconds for layers
        thousands wide.
    """

    def __call__(self, model: nn.Module, *, activation: str, seed: int) -> None:
        """Fill ``model`` in place. activation: a name of ``GAINS``."""
        scale = gain(activation)

        def rule(weight: Tensor, fan_in: int, fan_out: int, generator: torch.Generator) -> None:
            orthogonal_(weight, generator, scale=scale)

        initialise(model, rule, seed=seed)


@technique("init", name="zeros")
class Zeros:
    """All weights zero: right for a model without hidden layers, refused for any other.

    Formula: ``W = 0``.
    Source: Goodfellow, Bengio and Courville (2016), section 8.4, on why symmetry must be broken.
    Ours: units of a hidden layer that start equal receive equal gradients and stay equal for ever; with zeros they
        receive none. So a model with a hidden layer is refused; pre-flight looks for equal units in any model (rule
        ``equal-units``).
    Helps: linear models, whose loss is convex: they begin at ln C exactly. Hurts: everything else.
    """

    def __call__(self, model: nn.Module, *, activation: str, seed: int) -> None:
        """Fill ``model`` in place. Raises ModelError where a hidden layer's units would be identical."""
        mixing = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.modules.conv._ConvNd, nn.RNNBase))]
        tables = [m for m in model.modules() if isinstance(m, (nn.Embedding, nn.EmbeddingBag))]
        ends = {m.out_features for m in mixing if isinstance(m, nn.Linear)} | {m.embedding_dim for m in tables}
        if len(mixing) > 1 or len(ends) > 1 or any(isinstance(m, nn.RNNBase) for m in mixing):
            raise ModelError(
                "init 'zeros' makes all units of a hidden layer identical and they stay so; use init.name = 'auto', "
                "or model.name = 'linear', which has no hidden layer"
            )
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()


@technique("init", name="keep")
class Keep:
    """Leave the weights as the model's maker set them: for pretrained models and your own modules.

    Formula: layers of PyTorch that nobody filled have its own default, ``U(-a, a)`` with ``a = 1 / sqrt(fan_in)`` for
        weights and biases (written there as Kaiming's uniform with a slope of sqrt(5)): standard deviation
        0.577 / sqrt(fan_in).
    Source: PyTorch's ``nn.Linear``.
    Helps: pretrained weights. Hurts: deep ReLU networks without norms, whose mean square falls to a sixth per layer.
    """

    def __call__(self, model: nn.Module, *, activation: str, seed: int) -> None:
        """Do nothing."""


@technique("init", name="auto")
class Auto:
    """Weights that fit the activation, and the model's own rules after that.

    Formula: hidden layers ``he_normal`` with the activation's own gain (``xavier_uniform`` for tanh and sigmoid);
        biases 0; norms 1 and 0; embeddings N(0, 0.02); recurrent layers Xavier inputs, orthogonal memory and forget
        bias 1. Then the model's ``initialise``: last norms or layers of residual branches at zero, so that every block
        starts as the identity; small heads, so that the first loss is near ln C; and whatever else its page says.
    Source: He et al. (2015); Glorot and Bengio (2010); Goyal et al. (2017) for the zero branches.
    Ours: a model without ``initialise`` (``timm:``, ``hf:``) and a module of your own keep their weights; any other
        name here fills those too.
    Helps: nearly always. Hurts: comparisons with code that starts elsewhere; name its formula then.
    """

    def __call__(self, model: nn.Module, *, activation: str, seed: int) -> None:
        """Fill ``model`` in place. activation: a name of ``GAINS``."""
        if not callable(getattr(model, "initialise", None)):
            return
        saturating = activation in ("tanh", "sigmoid")
        rule = _uniform(lambda i, o: math.sqrt(2.0 / (i + o))) if saturating else _he_normal(activation)
        initialise(model, rule, seed=seed, recurrent=True)


def _normal(std: Callable[[int, int], float]) -> Rule:
    def rule(weight: Tensor, fan_in: int, fan_out: int, generator: torch.Generator) -> None:
        normal_(weight, std(fan_in, fan_out), generator=generator)

    return rule


def _uniform(std: Callable[[int, int], float]) -> Rule:
    def rule(weight: Tensor, fan_in: int, fan_out: int, generator: torch.Generator) -> None:
        uniform_(weight, math.sqrt(3.0) * std(fan_in, fan_out), generator=generator)

    return rule


def _he_normal(activation: str) -> Rule:
    scale = gain(activation)
    return _normal(lambda fan_in, fan_out: scale / math.sqrt(fan_in))


ALL = (Auto, XavierUniform, XavierNormal, HeNormal, HeUniform, LecunNormal, Orthogonal, Zeros, Keep)
