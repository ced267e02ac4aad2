"""softmax-before-cross-entropy: the model gives probabilities where the loss wants logits."""

from __future__ import annotations

import math

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> Finding | str:
    """The model gives probabilities where the loss wants logits: softmax is applied twice.

    Cross-entropy, focal and binary cross-entropy apply softmax (or the sigmoid) themselves, in a form that does not
    overflow. Behind a softmax of the model's own the largest gap between two outputs is 1, so the loss cannot fall
    below ``ln(1 + (C - 1) / e)``: 1.461 for 10 classes, however good the model is, and gradients fade long before.
    A model whose layers are drawn as "Conv, BatchNorm, ReLU, Pool, ..., Softmax" is meant to be read with a loss on
    probabilities; with ``CrossEntropyLoss`` the softmax must go.

    Found where the outputs lie in [0, 1] and sum to one (or lie in [0, 1] throughout: a sigmoid) on several batches,
    with the model's weights and with two sets of others, so that it is no chance. Both modes are tried: a model that
    gives logits in train mode and probabilities in eval mode trains well and is then misjudged.

    Look-alikes that do not count: log-softmax (cross-entropy leaves it as it is), outputs that are small or equal at
    first, probabilities of an attention inside.

    Fix: return the last linear layer's output; ``run.predict`` gives probabilities.
    """
    kind, modes, classes = log["squashed.kind"], log["squashed.modes"], log["squashed.classes"]
    if not kind:
        return "outputs are logits, not probabilities"
    # One output: the two classes' losses at probabilities 1 and 0, in equal shares.
    floor = math.log1p((classes - 1) / math.e) if classes > 1 else (math.log1p(1 / math.e) + math.log(2)) / 2
    where = "" if len(modes) == 2 else f" in {modes[0]} mode"
    word = "are probabilities (a softmax)" if kind == "softmax" else "are squashed into [0, 1] (a sigmoid)"
    return Finding(
        "softmax-before-cross-entropy", "error",
        f"the outputs{where} {word}, and the loss applies its own: it cannot fall below {floor:.3f}", "last layer",
        {"floor": floor, "classes": classes, "modes": modes},
        "take the softmax or sigmoid out of the model and return logits; predict gives probabilities",
    )  # fmt: skip


RULE = Rule(
    "softmax-before-cross-entropy",
    check,
    ("squashed.kind", "squashed.modes", "squashed.classes"),
    tasks=("classification", "language", "sequence"),
)
