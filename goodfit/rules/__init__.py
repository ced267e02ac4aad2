"""All rules, one file each."""

from goodfit.check import Rule
from goodfit.rules import (
    batch_leak,
    broken_forward,
    broken_targets,
    causal_leak,
    constant_labels,
    dropout_before_norm,
    equal_units,
    initial_loss,
    linear_after_linear,
    mirrored_symbols,
    no_gradient,
    one_batch,
    saturating_layers,
    small_norm_batch,
    softmax_before_cross_entropy,
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
    mirrored_symbols.RULE,
    initial_loss.RULE,
    no_gradient.RULE,
    batch_leak.RULE,
    causal_leak.RULE,
    softmax_before_cross_entropy.RULE,
    equal_units.RULE,
    linear_after_linear.RULE,
    saturating_layers.RULE,
    dropout_before_norm.RULE,
    small_norm_batch.RULE,
    wrong_gradient.RULE,
    one_batch.RULE,
)
