"""What all callbacks share: a watch that begins and ends with a training, and prints what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import nn

from goodfit.types import Finding
from goodfit.watching import Watch, in_words


class Watching:
    """Watches one training after the other; ``findings`` and ``not_checked`` are those of the latest.

    ignore: names of rules that are not asked. say: called with each finding; it is printed unless said.
    """

    def __init__(self, *, ignore: Iterable[str] = (), say: Callable[[Finding], None] | None = None) -> None:
        super().__init__()
        self._asked = tuple(ignore), say or _print
        self._watch: Watch | None = None
        self._running = False

    @property
    def findings(self) -> list[Finding]:
        """What is wrong, as far as it is known by now."""
        return [] if self._watch is None else self._watch.findings

    @property
    def not_checked(self) -> list[tuple[str, str]]:
        """``(rule, reason)`` of what could not be decided."""
        return [] if self._watch is None else self._watch.not_checked

    @property
    def steps(self) -> int:
        """Optimizer updates that were seen."""
        return 0 if self._watch is None else self._watch.live.step

    def begin_watch(self, *models: object) -> None:
        """A training begins."""
        self.end_watch()
        ignore, say = self._asked
        self._watch = Watch(*(one for one in models if isinstance(one, nn.Module)), ignore=ignore, say=say)
        self._watch.__enter__()
        self._running = True

    def end_watch(self) -> None:
        """It has ended, well or not."""
        if self._watch is not None and self._running:
            self._running = False
            self._watch.__exit__(None, None, None)

    def __getstate__(self) -> dict[str, object]:
        """Frameworks copy and save their callbacks; a watch belongs to this process alone."""
        return {**self.__dict__, "_watch": None, "_running": False}


def _print(finding: Finding) -> None:
    print(f"{finding.severity} {in_words(finding)}", flush=True)
