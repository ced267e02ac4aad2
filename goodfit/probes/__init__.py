"""Probes read a live run, or try things on a copy of it, and never change it."""
