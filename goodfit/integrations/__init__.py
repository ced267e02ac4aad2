"""One line for those who train with a framework: a callback that watches, tells and keeps what it found.

::

    Trainer(callbacks=[goodfit.integrations.lightning.Watch()])            # Lightning
    Trainer(..., callbacks=[goodfit.integrations.transformers.Watch()])    # Transformers
    model.fit(..., callbacks=[goodfit.integrations.keras.Watch()])         # Keras 3 on PyTorch
    NeuralNet(..., callbacks=[goodfit.integrations.skorch.Watch()])        # skorch
    %load_ext goodfit, then %%goodfit on top of a cell                     # notebooks

A framework is imported when its ``Watch`` is first asked for.
"""

from __future__ import annotations

import importlib
from types import ModuleType

_MODULES = ("keras", "lightning", "notebook", "skorch", "transformers")


def __getattr__(name: str) -> ModuleType:
    if name in _MODULES:
        return importlib.import_module(f"goodfit.integrations.{name}")
    raise AttributeError(f"module 'goodfit.integrations' has no attribute {name!r}")
