"""What all tests share: no writing into the user's cache, one thread a process, small images."""

from __future__ import annotations

import os

# Before torch is imported here or in a program that a test starts: tests are tiny, and several processes of them run at
# once, whose threads would otherwise wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test works in a folder of its own and remembers nothing for the next."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    generator, threads, precision = torch.get_rng_state(), torch.get_num_threads(), torch.get_float32_matmul_precision()
    exact = torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_rng_state(generator)
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(precision)
    torch.use_deterministic_algorithms(exact)


@pytest.fixture
def image_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder of class folders of small images that can be told apart: ``image_folder(classes, each, side)``."""

    def make(classes: int = 3, each: int = 12, side: int = 16) -> Path:
        root = tmp_path / "pictures"
        random = np.random.default_rng(0)
        for kind in range(classes):
            (root / f"kind{kind}").mkdir(parents=True)
            for number in range(each):
                pixels = random.integers(0, 60, (side, side, 3))
                pixels[kind * 4 : kind * 4 + 4, :, kind % 3] += 180
                Image.fromarray(pixels.astype(np.uint8)).save(root / f"kind{kind}" / f"{number}.png")
        return root

    return make
