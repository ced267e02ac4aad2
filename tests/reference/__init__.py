"""The same mathematics as goodfit, written a second time from the formulas, in float64 NumPy."""
