"""A callback for Keras 3 on PyTorch: ``model.fit(..., callbacks=[goodfit.integrations.keras.Watch()])``."""

from __future__ import annotations

from typing import Any

from goodfit.errors import ModelError, optional
from goodfit.integrations.training import Watching


def _make() -> type:
    keras: Any = optional("keras", "keras")
    if keras.backend.backend() != "torch":
        raise ModelError(f"Keras runs on {keras.backend.backend()}; set KERAS_BACKEND=torch before it is imported")

    class Watch(Watching, keras.callbacks.Callback):  # type: ignore[misc]
        """Watches ``fit``."""

        def on_train_begin(self, logs: Any = None) -> None:
            """Called before the first step."""
            self.begin_watch(self.model)

        def on_train_end(self, logs: Any = None) -> None:
            """Called after the last step."""
            self.end_watch()

    return Watch


def __getattr__(name: str) -> Any:
    if name != "Watch":
        raise AttributeError(name)
    globals()["Watch"] = made = _make()
    return made
