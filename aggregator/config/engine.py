"""Tables of the core: its times and prices, how ratings shrink, the interconnection's protection."""

from __future__ import annotations

from pydantic import Field, model_validator

from aggregator.config.table import Table


class EngineTable(Table):
    """The core's times and prices."""

    refresh_s: float = Field(1.0, gt=0, le=10)
    fresh_s: float = Field(3.0, gt=0, le=5)
    stale_s: float = Field(5.0, gt=0, le=5)
    validity_s: float = Field(6.0, gt=0.5, le=60)
    overshoot_frac: float = Field(0.05, ge=0, le=0.5)
    sample_age_max_s: float = Field(1.0, gt=0, le=60)
    dwell_s: float = Field(60.0, ge=0, le=3600)
    rest_s: float = Field(0.0, ge=0, le=60)
    reversal_kw: float = Field(2.0, ge=0, le=100)
    most_frac: float = Field(1.0, gt=0, le=1)
    wear_price: float = Field(0.0, ge=0, le=10)
    retry_s: float = Field(900.0, gt=0, le=86_400)
    loss_standing_frac: float = Field(0.0, ge=0, lt=0.2, description="of the rating, lost while a charger runs")
    loss_quadratic_frac: float = Field(0.0, ge=0, lt=0.5, description="of the rating, lost besides at full power")

    @model_validator(mode="after")
    def _ordered(self) -> EngineTable:
        if self.fresh_s > self.stale_s:
            raise ValueError("`fresh_s` must not be above `stale_s`")
        return self


class LimitsTable(Table):
    """How ratings shrink near the edges of the state of charge and of temperature."""

    taper_from_frac: float = Field(0.85, gt=0, le=1)
    taper_least_frac: float = Field(0.1, gt=0, le=1)
    weak_below_frac: float = Field(0.08, ge=0, lt=1)
    cold_c: float = Field(5.0, ge=-60, le=120)
    cold_stop_c: float = Field(-10.0, ge=-60, le=120)
    hot_c: float = Field(45.0, ge=-60, le=120)
    hot_stop_c: float = Field(55.0, ge=-60, le=120)
    bypass_k: float = Field(5.0, gt=0, le=200)

    @model_validator(mode="after")
    def _ordered(self) -> LimitsTable:
        if not self.cold_stop_c < self.cold_c < self.hot_c < self.hot_stop_c:
            raise ValueError("`cold_stop_c`, `cold_c`, `hot_c`, `hot_stop_c` must rise in this order")
        if self.weak_below_frac >= self.taper_from_frac:
            raise ValueError("`weak_below_frac` must be below `taper_from_frac`")
        return self


class ProtectionTable(Table):
    """The interconnection's trip limits, and how service is entered again; its own figures, or whose."""

    use: str = Field("auto", min_length=1, description="`auto`, `none`, or a product that brings them")
    trips: tuple[tuple[float, float], ...] | None = Field(None, description="[Hz, s]")
    ride_through: tuple[tuple[float, float, float], ...] | None = Field(None, description="[low Hz, high Hz, s]")
    enter_low_hz: float | None = None
    enter_high_hz: float | None = None
    enter_delay_s: float | None = None
    enter_ramp_s: float | None = None
    enter_low_pu: float | None = None
    enter_high_pu: float | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> ProtectionTable:
        if self.use != "auto" and self.model_dump(exclude_none=True, exclude={"use"}):
            raise ValueError("`use`: leave it out where the table brings figures of its own")
        return self
