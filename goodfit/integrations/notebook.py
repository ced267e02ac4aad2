"""For notebooks: ``%load_ext goodfit`` once, then ``%%goodfit`` on top of a cell that trains."""

from __future__ import annotations

from typing import Any

from goodfit.integrations.training import Watching


def load_ipython_extension(shell: Any) -> None:
    """Called by ``%load_ext goodfit``."""

    def goodfit(line: str, cell: str) -> None:
        """Run the cell and say what is wrong with its training; words behind %%goodfit are rules to ignore."""
        watching = Watching(ignore=line.split())
        watching.begin_watch()
        try:
            shell.run_cell(cell)
        finally:
            watching.end_watch()
        for rule, reason in watching.not_checked:
            print(f"not checked  {rule}: {reason}")
        if watching.steps == 0:
            print("saw no optimizer step: nothing was trained, or by other means than torch.optim")
        elif not watching.findings:
            print(f"nothing wrong was found in {watching.steps:,} steps")

    shell.register_magic_function(goodfit, magic_kind="cell", magic_name="goodfit")
