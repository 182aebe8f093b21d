"""What was promised, what was delivered, and the proof: pure functions over recorded arrays.

Settlement goes by source time, never by arrival. Nothing here reads a clock, a stream or a fleet's columns; of
our own code it may import `droop.products`, `droop.curve` and `droop.dynamics` alone, so that the expected power
is the very curve the engine followed. Positive power is into the grid.
"""
