"""tied-weights-apart: an embedding and a head that were one weight have become two."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> list[Finding] | str:
    """An embedding and an output layer hold equal numbers in two tensors when training begins, and drift apart then.

    Two tensors that were initialised by themselves are never equal number by number, so they were copied or tied, and
    the tie was lost: by ``weight.data = ...``, a checkpoint, a move or a wrapper.

    Look-alikes that do not count: one shared tensor; weights that were never tied; constant weights.

    Fix: ``head.weight = embedding.weight`` after loading and moving, before the optimizer is built.
    """
    found = [
        Finding(
            "tied-weights-apart",
            "error",
            f"'{head}' begins equal to '{table}', number by number, but is another tensor: they drift apart",
            head,
            {"embedding": table, "head": head},
            f"tie them: assign the parameter of '{table}' itself",
            why="each gets half of the gradients that the shared weight should have",
        )
        for head, table in log["tied.apart"].items()
    ]
    return found or "no embedding lost its tie"


RULE = Rule("tied-weights-apart", check, ("tied.apart",), status="stable")
