"""Benchmarks: what goodfit reaches on real data, what its loop costs, what execution choices are worth."""
