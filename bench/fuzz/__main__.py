"""Fuzz one target with atheris: ``python -m bench.fuzz TARGET CORPUS [libFuzzer options]``.

``pip install 'goodfit[fuzz]'`` first. Example: ``python -m bench.fuzz table tests/trust/corpus/table
-max_total_time=3600 -timeout=5 -rss_limit_mb=2048``. The limit of memory is 1 GiB beyond what PyTorch and pandas take
when they are imported.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["goodfit", "tomllib"]):
    from bench.fuzz.targets import TARGETS, small_run


def main() -> None:
    """Fuzz until libFuzzer's options end it, or something is found."""
    target = sys.argv.pop(1)
    if target == "run":
        small_run()
    atheris.Setup(sys.argv, TARGETS[target])
    atheris.Fuzz()


main()
