"""Every listener that watches a running program; each file of them is one group of signals."""

from __future__ import annotations

from collections.abc import Callable

from goodfit.observer.events import Listener
from goodfit.observer.live import Live
from goodfit.probes.accumulation import Accumulation
from goodfit.probes.averages import Averages
from goodfit.probes.copies import Copies
from goodfit.probes.decay import Decay
from goodfit.probes.dropout_layers import DropoutLayers
from goodfit.probes.evaluations import Evaluations
from goodfit.probes.finite import Finite
from goodfit.probes.gradient_use import GradientUse
from goodfit.probes.graphs import Graphs
from goodfit.probes.labels import Labels
from goodfit.probes.layers import Layers
from goodfit.probes.loaders import Loaders
from goodfit.probes.loss_inputs import LossInputs
from goodfit.probes.modes import Modes
from goodfit.probes.network_calls import NetworkCalls
from goodfit.probes.network_inputs import NetworkInputs
from goodfit.probes.ownership import Ownership
from goodfit.probes.precision import Precision
from goodfit.probes.replicas import Replicas
from goodfit.probes.resumption import Resumptions
from goodfit.probes.schedules import Schedules
from goodfit.probes.speed import Speed
from goodfit.probes.steps import Steps
from goodfit.probes.symmetry import Symmetry
from goodfit.probes.targets import Targets

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
    Accumulation,
    Graphs,
    Symmetry,
    NetworkInputs,
    Targets,
    Copies,
    Layers,
    DropoutLayers,
    Averages,
    Decay,
    Evaluations,
    Labels,
    NetworkCalls,
    Precision,
    Replicas,
    Speed,
)
