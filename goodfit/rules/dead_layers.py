"""dead-layers: weights get a gradient of exactly zero, step after step."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> Finding | str:
    """Weights of a network get a gradient that is exactly zero at every step that was looked at, from the start on.

    Nothing reaches them: every unit behind is a ReLU that is never on, a saturated activation, or a product with zero.
    Speaks from step 20 on, after seven looks, while other parameters of the same optimizer get a gradient, and takes
    it back once a gradient comes.

    Look-alikes that do not count: weights behind a zero-initialised scale, whose gradient comes at the second step;
    sparse activations, which leave some gradient; experts and branches that are not used (no gradient at all).

    Fix: initialise biases at zero and weights by He's rule, lower the learning rate, or use an activation that does not
    end at zero.
    """
    dead = log["dead.weights"]
    if dead:
        one = next(iter(dead.values()))
        more = f" (and of {len(dead) - 1} more weights)" if len(dead) > 1 else ""
        return Finding(
            "dead-layers",
            "warning",
            f"the gradient of '{one.name}'{more} was exactly 0 at all of {one.looks} looks in {one.steps} steps",
            one.name,
            {"weights": list(dead)[:20], "looks": one.looks},
            "look at its biases and initial scale, lower the learning rate, or change the activation behind it",
            why="it stays as it was initialised, and what lies before it gets nothing either",
        )
    return "gradients reach all weights"


RULE = Rule(
    "dead-layers",
    check,
    ("dead.weights",),
    follows=("equal-units", "clipped-logits", "step-without-gradient"),
    status="stable",
)
