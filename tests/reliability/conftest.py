"""A server that starts runs quickly, and the uninterrupted run that all others are held against."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bench.torture import little
from bench.torture.server import Server


class Whole(NamedTuple):
    """A run that nothing disturbed: where it lies, what came out, how long it took."""

    folder: Path
    outcome: dict[str, Any]
    seconds: float


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture(scope="session")
def whole(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole") / "run"
    began = time.monotonic()
    server.start(folder)
    assert server.wait() == 0, Path(f"{folder}.log").read_text()
    return Whole(folder, little.outcome(folder), time.monotonic() - began)
