"""Hostile files for every reader; `benchmarks/fuzzing.py` runs the same for longer."""
