"""unnormalised-inputs: what reaches the model is far from zero mean and unit scale, or not finite."""

from __future__ import annotations

from goodfit.check import Log, Rule
from goodfit.types import Finding


def check(log: Log) -> Finding | str:
    """What reaches the model is far from zero mean and unit scale, or holds NaN or infinity.

    Looks at the floating-point inputs of a batch, as the model gets them. Reported when a value is not finite, or when
    the mean lies more than 5 away from zero or the standard deviation is above 10 or below 0.02. Such inputs are
    sometimes harmless (sparse counts, a net that begins with a normalisation), so it is a warning; values that are not
    finite are an error.

    Why it matters: initialisation and learning rates assume inputs of unit scale; pixels in 0-255 slow training or make
    it diverge, and inputs divided by 255 twice are too faint to learn from.
    Fix: standardise with the mean and standard deviation of the training part.
    Source: LeCun et al., "Efficient BackProp" (1998), section 4.3.
    """
    mean, std, bad = log["inputs.mean"], log["inputs.std"], log["inputs.nonfinite"]
    evidence = {"mean": mean, "std": std, "not finite": bad}
    if bad:
        return Finding(
            "unnormalised-inputs", "error", f"{bad:,} input values are NaN or infinite", "inputs", evidence,
            "remove or fill them before training",
        )  # fmt: skip
    if abs(mean) > 5 or std > 10 or std < 0.02:
        return Finding(
            "unnormalised-inputs", "warning", f"inputs have mean {mean:.3g} and standard deviation {std:.3g}",
            log.get("inputs.where", "inputs"),
            evidence, "standardise them: subtract the training mean, divide by the standard deviation",
        )  # fmt: skip
    return f"inputs have mean {mean:+.2f}, standard deviation {std:.2f}"


RULE = Rule("unnormalised-inputs", check, ("inputs.mean", "inputs.std", "inputs.nonfinite"), status="stable")
