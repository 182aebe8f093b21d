"""Options of a backtest that change what is sold, or the chargers."""

from __future__ import annotations

from typing import Annotated

import typer

DeadbandHz = Annotated[
    float | None, typer.Option(help="What if the dead band had this half width [Hz]; the product is told as changed.")
]
FullHz = Annotated[
    float | None, typer.Option(help="What if all were due at this deviation [Hz] (droop); told as changed.")
]
DeadS = Annotated[float | None, typer.Option(help="Dead time of every charger [s].")]
RampKwS = Annotated[float | None, typer.Option(help="Ramp of every charger [kW/s].")]
BatteryPrice = Annotated[
    float, typer.Option(min=0.0, help="Price of a kilowatt-hour of battery, for wear: a parameter [M].")
]
