"""When listeners are told everything: in the first steps, around each look of the rules, and after something new.

In between only what must be heard at each step is told, so that a long training costs next to nothing to watch. What is
wrong from the start shows in the first steps; what begins later begins with something new: an evaluation, a new
optimizer, a checkpoint that is loaded.
"""

from __future__ import annotations

from collections import Counter

FIRST = 30
"""Steps at the start in which everything is told."""
LOOKS = (1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 75, 100, 150, 200, 300, 500, 700, 1000)
"""The steps at which rules are asked; after the last one every 1,000 steps."""
BEFORE = 2
"""Steps before each look that are told in full."""
OFTEN = 6
"""Times that the same kind of new thing is followed step by step; after them at every doubling of its count."""

EACH_STEP = frozenset(
    (
        "zero_grad", "backward", "after_backward", "before_step", "after_step", "loss", "before_forward", "forward",
        "dropout", "clip", "batch", "waited", "scheduler_step",
    )
)  # fmt: skip
"""Events of an ordinary step, which are left out while nobody looks; all others are rare and always told."""


class Attention:
    """A clock of steps that says whether to look closely. step: updates of all optimizers so far."""

    def __init__(self) -> None:
        self.step = 0
        self._until = FIRST
        self._news: Counter[str] = Counter()

    def stepped(self) -> None:
        """One more update."""
        self.step += 1

    def news(self, kind: str, steps: int = 5) -> None:
        """Something new: look closely for some steps, though less often the more often it happens."""
        count = self._news[kind] = self._news[kind] + 1
        if count <= OFTEN or count & (count - 1) == 0:
            self._until = max(self._until, self.step + steps)

    def follow(self, steps: int) -> None:
        """Look closely for so many steps from now on."""
        self._until = max(self._until, self.step + steps)

    @property
    def close(self) -> bool:
        """Whether everything is told now."""
        return self.step < self._until or is_near(self.step)


def is_near(step: int) -> bool:
    """Whether rules will be asked at this step or right after it.

    >>> [step for step in range(40, 80) if is_near(step)]
    [48, 49, 50, 73, 74, 75]
    """
    if step <= LOOKS[-1]:
        return any(look - BEFORE <= step <= look for look in LOOKS)
    return step % LOOKS[-1] in (0, *range(LOOKS[-1] - BEFORE, LOOKS[-1]))
