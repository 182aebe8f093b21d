"""Gateways: what stands behind `aggregator.ports.VehicleGateway`.

Protocol units and signs end here: inside, positive power is into the grid, kW, fractions and ns. A gateway knows
nothing of products, splits or scores.
"""
