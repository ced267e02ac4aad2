"""Well-known sets of images by name, downloaded by torchvision where there is a network."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from goodfit.data.image_column import as_images
from goodfit.errors import DataError, nearest

# Our name -> torchvision's class, and how its two parts are asked for.
_SETS = {
    "cifar10": ("CIFAR10", "train"),
    "cifar100": ("CIFAR100", "train"),
    "mnist": ("MNIST", "train"),
    "fashion-mnist": ("FashionMNIST", "train"),
    "kmnist": ("KMNIST", "train"),
    "usps": ("USPS", "train"),
    "svhn": ("SVHN", "split"),
    "stl10": ("STL10", "split"),
}
NAMES = tuple(_SETS)


class Downloaded(NamedTuple):
    """A set: pixels ``(n, channels, height, width)`` uint8, labels and part (0 train, 2 test) ``(n,)`` int64."""

    pixels: Tensor
    labels: NDArray[np.int64]
    part: NDArray[np.int64]
    classes: Sequence[str]
    fingerprint: str


def cache_folder() -> Path:
    """Where downloads are kept: ``~/.cache/goodfit``, or below ``XDG_CACHE_HOME`` where that is set."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "goodfit"


def download(name: str, *, folder: Path | None = None) -> Downloaded:
    """Read a set from the cache, or download it into the cache.

    Raises DataError for unknown names and where there is neither copy nor network.
    """
    if name not in _SETS:
        raise DataError(f"no set of images is called '{name}'{nearest(name, NAMES)}")
    kind, how = _SETS[name]
    root = folder or cache_folder()
    # torchvision takes a second to import, and nothing else of reading needs it.
    sets = importlib.import_module("torchvision.datasets")
    parts: list[Any] = []
    try:
        root.mkdir(parents=True, exist_ok=True)
        for train in (True, False):
            asked: dict[str, Any] = {"train": train} if how == "train" else {"split": "train" if train else "test"}
            # Its progress bar goes to stderr and stays; what it says besides is noise.
            with contextlib.redirect_stdout(io.StringIO()):
                parts.append(getattr(sets, kind)(str(root), download=True, **asked))
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise DataError(
            f"'{name}' is not in {root} and cannot be downloaded ({reason}); connect to the network, or put "
            f"torchvision's files there"
        ) from None
    pixels = torch.cat([as_images(part.data) for part in parts])
    labels = np.concatenate(
        [np.asarray(part.targets if hasattr(part, "targets") else part.labels, np.int64) for part in parts]
    )
    part = np.repeat(np.asarray([0, 2], np.int64), [len(one.data) for one in parts])
    count = int(labels.max()) + 1
    classes = [str(one) for one in getattr(parts[0], "classes", range(count))]
    digest = hashlib.sha256(pixels.numpy().tobytes())
    digest.update(labels.tobytes())
    return Downloaded(pixels, labels, part, classes, digest.hexdigest())
