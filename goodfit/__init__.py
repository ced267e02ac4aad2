"""goodfit trains a neural network well with one command, and explains what it did.

>>> import goodfit  # doctest: +SKIP
>>> run = goodfit.train("digits")  # doctest: +SKIP
"""

from goodfit.errors import DataError, GoodfitError, MissingExtra, ModelError, RecipeError, RunError

__version__ = "0.1.0"
