"""All rules, one file each."""

from goodfit.check import Rule
from goodfit.rules import (
    batch_leak,
    broken_forward,
    broken_targets,
    causal_leak,
    constant_labels,
    initial_loss,
    no_gradient,
    one_batch,
    split_overlap,
    unnormalised_inputs,
    wrong_gradient,
)

RULES: tuple[Rule, ...] = (
    unnormalised_inputs.RULE,
    broken_forward.RULE,
    broken_targets.RULE,
    constant_labels.RULE,
    split_overlap.RULE,
    initial_loss.RULE,
    no_gradient.RULE,
    batch_leak.RULE,
    causal_leak.RULE,
    wrong_gradient.RULE,
    one_batch.RULE,
)
