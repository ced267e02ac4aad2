"""broadcast-loss: prediction and target do not match in shape, and are spread against each other."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """Prediction and target of a pairwise loss have different shapes and are broadcast: each is compared with all.

    ``mse_loss`` of ``(64, 1)`` and ``(64,)`` makes 64 x 64 differences, and the best answer is the mean of all targets
    for everything. Certain at the first call in which the broadcast shape has more numbers than either side.

    Look-alikes that do not count: a constant target such as ``torch.ones(1)``, which spreads to the prediction's own
    shape.

    Fix: bring both to one shape: ``prediction.squeeze(1)`` or ``target.unsqueeze(1)``.
    """
    found = [
        Finding(
            "broadcast-loss",
            "error",
            f"{one.name} compares {one.shapes[0]} with {one.shapes[1]}, which spreads to {one.shapes[2]}: every "
            "prediction is compared with every target",
            one.where,
            {"calls": one.spread, "of": one.calls, "loss": one.value},
            "bring both to one shape: prediction.squeeze(1), or target.unsqueeze(1)",
            why="the best it can learn is the mean of all targets",
        )
        for one in log["loss.facts"].values()
        if one.spread
    ]
    return found or "predictions and targets match in shape"


RULE = Rule("broadcast-loss", check, ("loss.facts",), status="stable")
