"""Mixup where inputs are names and words: of the vectors that a model makes of them."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from goodfit import keyed
from goodfit.models.mixing import MIXING, with_partners
from goodfit.technique import Until, technique
from goodfit.techniques.batch_inputs import active, soft_targets
from goodfit.techniques.batch_mix import draw, mix
from goodfit.types import Batch, InputSpec, Moment

Alpha = Annotated[float, Field(gt=0, le=100)]


@technique("batch")
class EmbeddingMixup:
    """Mix the embeddings of two samples, and ask for the same mean of their targets.

    The mean of two words or of two cities is none; the mean of the vectors that stand for them is a fine input.

    Formula: ``h = l e(x_i) + (1 - l) e(x_j)``, ``y = l y_i + (1 - l) y_j``, l of Beta(alpha, alpha) for each sample; j
    is a random permutation of the batch. e is what the model makes of a sample before its layers: of a table all
    columns' vectors side by side, of a text the row that its words are read into (its mean, its last state). Where only
    a linear head follows, as in all models of texts but ``mlp``, the logits are the same mean.
    Source: Zhang et al. 2018 (mixup); Verma et al. 2019 (manifold mixup); Guo et al. 2019 (texts); Somepalli et al.
    2021 (SAINT, tables). Ours carries each sample's partner in the batch, so accumulated gradients stay exact, and
    draws one l for each sample. Beside an image column, mixed as pixels are, all columns take the same l.
    Helps: small tables with categories, short texts, wrong labels. Hurts: rules with sharp edges (the mean of two
    columns' vectors lies across the edge), regression with few values; each step embeds twice.

    alpha: strength: 0.2 mixes lightly, 1 draws l uniformly.
    until: off from here on, such as ``"80%"``.
    """

    kinds: ClassVar[tuple[str, ...]] = ("table", "text")
    excludes: ClassVar[tuple[str, ...]] = ("batch.mixup",)
    mixes: ClassVar[bool] = True

    alpha: Alpha = 0.2
    until: Until | None = None

    @staticmethod
    def refuses(spec: InputSpec, model: str) -> str:
        """Why a model cannot mix what it embeds, or nothing."""
        if model in MIXING:
            return ""
        other = "; use batch.mixup" if spec.kind == "table" and not spec.length else ""
        return f"works with the models {', '.join(MIXING)}, not with '{model}'{other}"

    def __call__(self, batch: Batch, moment: Moment) -> Batch:
        """The batch with a partner for each sample, targets and weights mixed; the model mixes the inputs."""
        if not active(self, moment):
            return batch
        place = keyed.key(moment.seed, "embedding_mixup", moment.step)
        share, partner = draw(place, batch.index, self.alpha, "sample")
        targets = mix(soft_targets("embedding_mixup", batch.targets, moment.classes), share, partner)
        weight = None if batch.weight is None else mix(batch.weight, share, partner)
        inputs = batch.inputs
        if isinstance(inputs, dict) and "image" in inputs:
            # Pixels have a mean, and mixed here they are standardised as any other image.
            inputs = {**inputs, "image": mix(inputs["image"], share, partner)}
            paired = with_partners({k: v for k, v in inputs.items() if k != "image"}, partner, share)
            return Batch({**paired, "image": inputs["image"]}, targets, weight, batch.index)
        return Batch(with_partners(inputs, partner, share), targets, weight, batch.index)
