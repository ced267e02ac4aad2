"""linear-after-linear: two linear layers with nothing non-linear between them are one."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> Finding | str:
    """Two linear layers with nothing non-linear between them can say no more than one.

    ``W2 (W1 x + b1) + b2 = (W2 W1) x + (W2 b1 + b2)``: without a non-linearity depth adds parameters and no power. The
    universal approximation theorem asks for one hidden layer *and* a non-linear activation. Read from the autograd
    graph of one pass: the output of one linear layer or convolution reaches another through reshapes and batch
    normalisation (a linear map at prediction) only, and nothing else reads it.

    Look-alikes that do not count: a middle narrower than both ends (a low-rank factorisation, LoRA, MobileNet's linear
    bottlenecks), depthwise and grouped convolutions, pairs of kernels such as 1x3 and 3x1, a layer norm between, an
    output that a skip connection reads too.

    Fix: put an activation between them, or leave one out.
    """
    pairs = log["linear.pairs"]
    if pairs:
        first, second = pairs[0]
        more = f" (and {len(pairs) - 1} more such pairs)" if len(pairs) > 1 else ""
        return Finding(
            "linear-after-linear", "warning",
            f"'{first}' feeds '{second}' with nothing non-linear between: the two are one linear layer{more}", first,
            {"pairs": [list(pair) for pair in pairs]}, "put an activation such as relu between them, or drop one",
        )  # fmt: skip
    return f"a non-linearity between all of {log['linear.count']} linear maps"


RULE = Rule("linear-after-linear", check, ("linear.pairs", "linear.count"), status="stable")
