"""``python -m bench.studies boundary|coverage|pairing [N]``."""

from __future__ import annotations

import importlib
import sys

if __name__ == "__main__":
    part, *rest = sys.argv[1:] or ["coverage"]
    importlib.import_module(f"bench.studies.{part}").main(*(int(one) for one in rest))
