"""evaluation-inputs-differ: what the network is judged on is scaled otherwise than what it is trained on."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """Inputs of evaluation have another mean or spread than training inputs: a step of the preparation was left out.

    Compares each column of a table, or channel of an image, over at least 50 samples on both sides. Speaks when in half
    of them the mean lies two standard deviations away, or the spread is 2.5 times larger or smaller: no augmentation
    and no chance does that.

    Look-alikes that do not count: augmentation of the training data; sequences, which drift; noise and embeddings that
    are sampled; single observations, as in reinforcement learning.

    Fix: prepare both parts by the same function, with the training part's statistics.
    """
    found = [
        Finding(
            "evaluation-inputs-differ",
            "warning",
            f"{one.count} of {one.of} input columns or channels are scaled otherwise in evaluation: mean "
            f"{one.judged[0]:.3g} ± {one.judged[1]:.3g}, in training {one.trained[0]:.3g} ± {one.trained[1]:.3g}",
            one.where,
            {"columns": one.count, "of": one.of, "samples": one.rows},
            "prepare evaluation data exactly as training data",
            why="the measured quality is not that of the network on data that it knows",
        )
        for one in log["inputs.differing"].values()
    ]
    return found or "training and evaluation inputs have the same scale"


RULE = Rule("evaluation-inputs-differ", check, ("inputs.differing",), status="stable")
