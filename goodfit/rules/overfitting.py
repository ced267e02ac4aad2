"""overfitting: the loss on held-out data has passed its minimum and rises while the training loss falls."""

from __future__ import annotations

import random
import statistics

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """The evaluation loss has risen for at least six evaluations, beyond its own noise, while the training loss fell.

    The noise is the spread of the differences between neighbouring evaluations, so the rule sets its own scale; the
    mean of the latest six is compared with the mean of the three around the minimum by a bootstrap over both (1,000
    draws), and the lowest of the latest six must lie above the minimum as well. The rise must be a quarter at least.

    Look-alikes that do not count: a single bad evaluation; a loss that swings; adversaries and reinforcement learning,
    which compute no loss of held-out data.

    Fix: keep the weights of the minimum; more data or augmentation, dropout, weight decay, fewer epochs.
    """
    found = []
    for one in log["evaluations"].values():
        if len(one.judged) < 10:
            continue
        place = min(range(len(one.judged)), key=lambda k: one.judged[k])
        late, near = one.judged[-6:], one.judged[max(0, place - 1) : place + 2]
        trained = [v for v in one.trained if v == v]
        if len(one.judged) - place <= 6 or len(trained) < 10 or not one.judged[place] > 0:
            continue
        draw = random.Random(0)
        mean = statistics.fmean
        gaps = sorted(mean(draw.choices(late, k=6)) - mean(draw.choices(near, k=len(near))) for _ in range(1000))
        noise = statistics.stdev([b - a for a, b in zip(one.judged, one.judged[1:], strict=False)])
        sure = gaps[25] > max(0.25 * one.judged[place], noise) and min(late) > 1.1 * one.judged[place]
        if sure and mean(trained[-3:]) < 0.8 * trained[min(place, len(trained) - 4)]:
            found.append(
                Finding(
                    "overfitting",
                    "warning",
                    f"the evaluation loss was {one.judged[place]:.3g} after step {one.steps[place]:,} and is "
                    f"{mean(late):.3g} over the latest six; the training loss fell to {mean(trained[-3:]):.3g}",
                    one.where,
                    {"rise, 95 % interval": f"{gaps[25]:.3g} to {gaps[974]:.3g}", "evaluations": len(one.judged)},
                    f"keep the weights of step {one.steps[place]:,}; regularise, or train for less long",
                    patch={"epochs": max(1, round(epochs[place]))} if (epochs := getattr(one, "epochs", ())) else {},
                    why="the network learns the training samples by heart",
                )
            )
    return found or "no evaluation loss has risen beyond its noise"


RULE = Rule(
    "overfitting",
    check,
    ("evaluations",),
    follows=(
        "train-validation-overlap",
        "evaluation-in-train-mode",
        "training-in-eval-mode",
        "evaluation-inputs-differ",
    ),
)
