"""Handing a whole engine to a kernel for the price of one argument.

Every array that Python hands to a kernel is looked at anew, some 0.15 us each; an engine has sixty. A handle is
looked at once: it holds the columns (the very same memory) in the form the kernels take. numba's `structref` is
what makes it; kernels themselves stay plain functions on columns.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.experimental import structref

from droop.numerics import strict


@structref.register
class HandleType(types.StructRef):
    """numba's type of a handle, by the type of what it holds."""

    def preprocess_fields(self, fields: Any) -> Any:
        """Fields without literal types: a number held is any number."""
        unliteral: Any = types.unliteral
        return tuple((name, unliteral(kind)) for name, kind in fields)


class Handle(structref.StructRefProxy):
    """Columns in the form kernels take; made by `hold`, read in kernels as `handle.value`."""

    def __new__(cls, value: Any) -> Handle:
        """For numba's own use; `hold` is compiled once and kept."""
        new: Any = structref.StructRefProxy.__new__
        made: Handle = new(cls, value)
        return made


_define: Any = structref.define_proxy
_define(Handle, HandleType, ["value"])


@strict
def hold(value: Any) -> Handle:
    """A handle on a NamedTuple of arrays; later writes to the arrays are seen through it."""
    return Handle(value)
