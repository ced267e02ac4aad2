"""A callback for Transformers: ``Trainer(..., callbacks=[goodfit.integrations.transformers.Watch()])``."""

from __future__ import annotations

from typing import Any

from goodfit.errors import optional
from goodfit.integrations.training import Watching


def _make() -> type:
    base: Any = optional("transformers", "hf").TrainerCallback

    class Watch(Watching, base):  # type: ignore[misc]
        """Watches ``train``."""

        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **more: Any) -> None:
            """Called before the first step."""
            self.begin_watch(model)

        def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            """Called after the last step."""
            self.end_watch()

    return Watch


def __getattr__(name: str) -> Any:
    if name != "Watch":
        raise AttributeError(name)
    globals()["Watch"] = made = _make()
    return made
