"""The rules about running programs, one file each."""

from goodfit.check import Rule
from goodfit.rules import double_softmax, stale_gradient

LIVE_RULES: tuple[Rule, ...] = (stale_gradient.RULE, double_softmax.RULE)
