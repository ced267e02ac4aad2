"""A callback for skorch: ``NeuralNetClassifier(..., callbacks=[goodfit.integrations.skorch.Watch()])``."""

from __future__ import annotations

from typing import Any

from goodfit.errors import optional
from goodfit.integrations.training import Watching


def _make() -> type:
    base: Any = optional("skorch.callbacks", "skorch").Callback

    class Watch(Watching, base):  # type: ignore[misc]
        """Watches ``fit``."""

        def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **more: Any) -> None:
            """Called before the first step."""
            self.begin_watch(net.module_)

        def on_train_end(self, net: Any, X: Any = None, y: Any = None, **more: Any) -> None:
            """Called after the last step."""
            self.end_watch()

    return Watch


def __getattr__(name: str) -> Any:
    if name != "Watch":
        raise AttributeError(name)
    globals()["Watch"] = made = _make()
    return made
