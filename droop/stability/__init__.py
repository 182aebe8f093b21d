"""Stability: what a fleet does to the frequency of the grid that it answers, in time and in frequency.

A grid is a system-frequency-response model (P. M. Anderson and M. Mirheydar, A low-order system frequency response
model, IEEE Transactions on Power Systems 5(3), 1990): one mass, load that falls with frequency, governors. A fleet
follows its product's curve through delay, lag, ramp and sampling. `study` composes the rest; numbers only, no clock.
Positive power is into the grid; a deviation is frequency minus nominal.
"""
