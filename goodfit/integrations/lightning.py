"""A callback for Lightning: ``Trainer(callbacks=[goodfit.integrations.lightning.Watch()])``."""

from __future__ import annotations

import importlib.util
from typing import Any

from goodfit.errors import optional
from goodfit.integrations.training import Watching


def _make() -> type:
    name = "lightning.pytorch" if importlib.util.find_spec("lightning") else "pytorch_lightning"
    base: Any = optional(name, "lightning").Callback

    class Watch(Watching, base):  # type: ignore[misc]
        """Watches ``fit``, from before optimizers are built to the end."""

        def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
            """Called before optimizers are built."""
            if stage == "fit":
                self.begin_watch(pl_module)

        def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
            """Called at the end, after an exception too."""
            self.end_watch()

    return Watch


def __getattr__(name: str) -> Any:
    if name != "Watch":
        raise AttributeError(name)
    globals()["Watch"] = made = _make()
    return made
