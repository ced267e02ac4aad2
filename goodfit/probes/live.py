"""Every listener that watches a running program; each file of them is one group of signals."""

from __future__ import annotations

from collections.abc import Callable

from goodfit.observer.events import Listener
from goodfit.observer.live import Live
from goodfit.probes.finite import Finite
from goodfit.probes.gradient_use import GradientUse
from goodfit.probes.loaders import Loaders
from goodfit.probes.loss_inputs import LossInputs
from goodfit.probes.modes import Modes
from goodfit.probes.ownership import Ownership
from goodfit.probes.resumption import Resumptions
from goodfit.probes.schedules import Schedules
from goodfit.probes.steps import Steps

LISTENERS: tuple[Callable[[Live], Listener], ...] = (
    GradientUse,
    Ownership,
    Steps,
    Schedules,
    LossInputs,
    Modes,
    Loaders,
    Finite,
    Resumptions,
)
