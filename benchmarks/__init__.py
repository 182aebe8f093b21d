"""Measured figures: ratios taken in one run wherever possible, absolute times only as reports.

`python -m benchmarks` (minutes), `python -m benchmarks --quick` (under three), `--only NAME` for one of them.
Each module writes `benchmarks/out/NAME.json`; nothing is asserted here, the tests never look at a clock.
"""
