"""Fuzzing of what reads strangers' files: ``make fuzz``; the corpus is replayed by the tests."""
