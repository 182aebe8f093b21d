"""The engine: numbers in, numbers out.

What a product promises, what a vehicle can give, and the exact division of one request over every vehicle.
Numpy, numba and scipy only: no I/O but the package's own catalogues and kernel cache, no clock, no logging, nothing of
the other packages. Positive power is into the grid; frequency in Hz, power in kW, energy in kWh, time in int64
ns where it is a fact and in s where it is a duration; SoC, SoH and DoD are fractions.
"""
