"""Run by every Python that a watched program starts: waits for PyTorch's first optimizer, and starts a watch then.

Nothing is imported here but what Python has loaded anyway, so processes that never train are as fast as without.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import json
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # spelt so that nothing is imported for it
    from typing import Any

MODULE = "torch.optim.optimizer"


class Finder:
    """Lets Python find the module by itself, and has it changed when it is loaded."""

    busy = False

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """What the import system asks for each module."""
        if name != MODULE or self.busy:
            return None
        self.busy = True
        try:
            spec: Any = importlib.util.find_spec(name)
        finally:
            self.busy = False
        sys.meta_path.remove(self)
        load = spec.loader.exec_module

        def loaded(module: Any) -> None:
            load(module)
            with contextlib.suppress(Exception):
                watch_first(module)

        spec.loader.exec_module = loaded
        return spec


def watch_first(module: Any) -> None:
    """The first optimizer that is built starts the watch; then all is as it was."""
    original = module.Optimizer.__init__

    @functools.wraps(original)
    def first(self: Any, *args: Any, **kwargs: Any) -> Any:
        if module.Optimizer.__init__ is first:
            module.Optimizer.__init__ = original
            # Whatever fails in here is told by the mark that is left without an answer, and never stops the program.
            with contextlib.suppress(Exception):
                asked = json.loads(os.environ["GOODFIT_CHECK"])
                os.mkdir(os.path.join(asked["folder"], str(os.getpid())))
                sys.path.append(asked["package"])
                try:
                    begin = importlib.import_module(asked.get("begin", "goodfit.children")).begin
                finally:
                    sys.path.remove(asked["package"])
                begin()
        return module.Optimizer.__init__(self, *args, **kwargs)

    module.Optimizer.__init__ = first


def next_one() -> None:
    """Run the ``sitecustomize`` that this one stands in front of, if there is any."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != here]
    ours = sys.modules.pop("sitecustomize", None)
    importlib.invalidate_caches()
    try:
        importlib.import_module("sitecustomize")
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
    finally:
        if ours is not None:
            sys.modules.setdefault("sitecustomize", ours)


if "GOODFIT_CHECK" in os.environ:
    sys.meta_path.insert(0, Finder())
    next_one()
