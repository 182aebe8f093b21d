"""Fleets as they are: recorded sessions joined with cars, fitted generators, charging plans and tariffs.

Composes the readers of `telemetry` into what the simulated fleet takes (`aggregator.gateways.arrivals.Guests`) and what
the core takes (`aggregator.contracts.Tariff`).
"""
