"""Seeing what any PyTorch program does while it trains, without changing it."""
