"""``python -m goodfit`` is the command line."""

from goodfit.cli import main

main()
