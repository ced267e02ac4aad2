"""The rules about running programs, one file each."""

from goodfit.check import Rule
from goodfit.rules import (
    broadcast_loss,
    clipped_logits,
    double_softmax,
    impossible_targets,
    logits_into_nll,
    optimizer_of_another_model,
    parameter_without_effect,
    parameters_not_in_optimizer,
    sigmoid_before_logits_loss,
    softmax_over_batch,
    stale_gradient,
)

LIVE_RULES: tuple[Rule, ...] = (
    optimizer_of_another_model.RULE,
    parameters_not_in_optimizer.RULE,
    parameter_without_effect.RULE,
    stale_gradient.RULE,
    double_softmax.RULE,
    softmax_over_batch.RULE,
    logits_into_nll.RULE,
    sigmoid_before_logits_loss.RULE,
    clipped_logits.RULE,
    broadcast_loss.RULE,
    impossible_targets.RULE,
)
