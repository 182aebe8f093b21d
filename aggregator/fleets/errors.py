"""What can be wrong with a fleet."""

from __future__ import annotations


class FleetError(ValueError):
    """A fleet that cannot be used; one line that names the field and the remedy."""
