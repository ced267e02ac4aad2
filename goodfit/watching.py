"""Watching any training loop: listeners record, rules judge, and the program trains as if nobody looked."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

from torch import nn
from torch.optim import Optimizer
from typing_extensions import override

from goodfit.check import Log, Rule, Verdict, folded, run_rules
from goodfit.observer.attention import LOOKS, OFTEN
from goodfit.observer.events import Listener
from goodfit.observer.hooks import Hooks
from goodfit.observer.live import Live
from goodfit.probes.ingredients import BATCHES, Ingredients, Kit
from goodfit.probes.live import LISTENERS
from goodfit.proof import FIXES, compare_rates, proved
from goodfit.rules.live import LIVE_RULES
from goodfit.types import Finding

RATES_AT = 100
"""The step at which other learning rates are tried, where fixes are tried at all."""


class Watch:
    """What ``goodfit.watch`` gives: use it as ``with goodfit.watch(model) as w: ...``, then read ``w.findings``.

    Nothing of the program is changed: no random number is drawn, no gradient touched, nothing kept alive.
    prove: replay some steps on copies, as they are and with the suspected fix, before a finding is told (`proof`).
    """

    def __init__(
        self,
        *models: nn.Module,
        ignore: Iterable[str] = (),
        say: Callable[[Finding], None] | None = None,
        rules: Sequence[Rule] = LIVE_RULES,
        prove: bool = False,
    ) -> None:
        self.live = Live()
        for model in models:
            self.live.names.seen(model)
        self.ignore = frozenset(ignore)
        self.say = say
        self.rules = [rule for rule in rules if rule.name not in self.ignore]
        self.verdicts: list[Verdict] = []
        self.findings: list[Finding] = []
        self._first: dict[tuple[str, str], int] = {}
        self.ingredients = Ingredients(self.live) if prove else None
        self._tried: dict[tuple[str, str], Finding | None] = {}
        made = [make(self.live) for make in LISTENERS]
        self.listeners: list[Listener] = [_Steps(self), *made, *([self.ingredients] if self.ingredients else [])]
        self.hooks = Hooks(self.listeners)

    def __enter__(self) -> Watch:
        self.hooks.install()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hooks.tell("ended")
        self.hooks.remove()
        self.look()
        if kind is not None and not issubclass(kind, Exception):
            self.try_fixes("the program was interrupted")
        else:
            self.try_fixes()

    def look(self) -> None:
        """Ask all rules about what was recorded so far; new findings are told to ``say``."""
        for listener, error in self.hooks.failed.items():
            why = f"the probe {type(listener).__name__} failed: {type(error).__name__}: {error}"
            self.live.missing |= dict.fromkeys(listener.signals, why)
            for signal in listener.signals:
                self.live.values.pop(signal, None)
        missing = {s: one.absent for one in self.listeners for s in one.signals if s not in self.live.values}
        with self.hooks.quiet():
            self.verdicts = run_rules(self.rules, Log(self.live.values, missing | self.live.missing))
        self.findings = [self._dated(one) for one in folded(self.verdicts, self.rules)]

    def _dated(self, finding: Finding) -> Finding:
        key = (finding.rule, finding.where)
        new = key not in self._first
        step = self._first.setdefault(key, self.live.step)
        dated = finding if finding.step is not None else replace(finding, step=step)
        if self.ingredients is not None and dated.rule in FIXES:
            if new:
                self._tried[key] = None
                self.ingredients.ask()
                self.hooks.attention.follow(BATCHES + 3)
            tried = self._tried.get(key)
            return dated if tried is None else replace(dated, severity=tried.severity, proof=tried.proof)
        if new:
            self._tell(dated)
        return dated

    def _tell(self, finding: Finding) -> None:
        # A program may have closed what is printed to; that must not stop it, and the findings are kept.
        if self.say is not None:
            with contextlib.suppress(Exception):
                self.say(finding)

    def try_fixes(self, why: str = "") -> None:
        """Replay some steps with the fixes of what was found, and tell of it. why: no replay can be made any more."""
        if self.ingredients is None or not self.ingredients.asked:
            return
        kit = self.ingredients.kit
        why = why or self.ingredients.why
        if not why and (kit is None or not kit.samples):
            why = "the program ended before a step could be copied"
        for place, one in enumerate(self.findings):
            key = (one.rule, one.where)
            if key in self._tried and self._tried[key] is None:
                with self.hooks.quiet():
                    self.findings[place] = self._tried[key] = done = proved(one, kit, why)
                self._tell(done)
        self._tried = {key: one for key, one in self._tried.items() if one is not None}
        self._try_rates(kit)
        self.ingredients.end()

    def _try_rates(self, kit: Kit | None) -> None:
        if kit is None or len(kit.samples) < BATCHES or self.live.step < RATES_AT or "rates" in self.live.values:
            return
        where = next((one.where for one in self.live.values.get("steps", {}).values()), "")
        with self.hooks.quiet(), contextlib.suppress(Exception):  # a network may raise anything on copies
            self.live.values["rates"] = compare_rates(kit, where)

    @property
    def not_checked(self) -> list[tuple[str, str]]:
        """``(rule, reason)`` of what could not be decided. It is not the same as healthy."""
        idle = {one.absent for one in self.listeners if not one.matters}
        told = [(v.name, v.text.removeprefix("not checked: ")) for v in self.verdicts if v.outcome == "not checked"]
        return [(name, why) for name, why in told if why not in idle]


class _Steps(Listener):
    """Counts steps, learns names, and asks the rules at the right moments."""

    def __init__(self, watch: Watch) -> None:
        self.watch, self.looked, self.epochs = watch, 0, 0

    @property
    @override
    def always(self) -> frozenset[str]:
        return frozenset(("before_step",))

    @override
    def before_forward(self, module: nn.Module, inputs: tuple[Any, ...], depth: int) -> None:
        if depth == 0:
            self.watch.live.names.seen(module)
            self._maybe()

    @override
    def before_step(self, optimizer: Optimizer) -> None:
        self.watch.live.step += 1

    @override
    def scheduler_step(self, scheduler: Any, arguments: tuple[Any, ...]) -> None:
        self._maybe()

    @override
    def zero_grad(self, owner: Any) -> None:
        self._maybe()

    @override
    def loader_begins(self, loader: Any) -> None:
        if self.watch.live.step:
            self.epochs += 1
            if self.epochs <= OFTEN or self.epochs & (self.epochs - 1) == 0:
                self.watch.look()

    def _maybe(self) -> None:
        step = self.watch.live.step
        ingredients = self.watch.ingredients
        if ingredients is not None and ingredients.ready:
            self.watch.try_fixes()
        if ingredients is not None and step == RATES_AT and step != self.looked:
            ingredients.ask()
            self.watch.hooks.attention.follow(BATCHES + 3)
        if step != self.looked and (step in LOOKS or step % LOOKS[-1] == 0):
            self.looked = step
            self.watch.look()


def watch(
    *models: nn.Module,
    ignore: Iterable[str] = (),
    say: Callable[[Finding], None] | None = None,
    prove: bool = False,
) -> Watch:
    """Look for faults in the training that runs inside the ``with``.

    models: for the names of their parameters; modules that are called are found without.
    ignore: names of rules that are not asked. say: called with each new finding. prove: replay some steps on copies
    with the suspected fix, and say what it does to the loss.

    >>> import goodfit  # doctest: +SKIP
    >>> with goodfit.watch(model) as w: train(model)  # doctest: +SKIP
    >>> w.findings  # doctest: +SKIP
    """
    return Watch(*models, ignore=ignore, say=say, prove=prove)


def in_words(finding: Finding) -> str:
    """A finding as plain text: what is wrong and where; then the numbers, why it matters, and the fix, a line each.

    >>> print(in_words(Finding("stale-gradient", "error", "gradients pile up", "train.py:7", {"steps": 3}, "clear")))
    stale-gradient: train.py:7: gradients pile up
      seen: steps 3
      fix: clear
    """
    numbers = ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in finding.evidence.items())
    lines = [": ".join(filter(None, (finding.rule, finding.where, finding.message)))]
    more = (("seen", numbers), ("why", finding.why), ("fix", finding.fix), ("tried", finding.proof))
    also = [("also", one) for one in finding.folded]
    return "\n".join([*lines, *(f"  {label}: {text}" for label, text in (*more, *also) if text)])


__all__ = ["LOOKS", "Watch", "in_words", "watch"]
