"""Handing a whole engine to a kernel for the price of one argument.

A NamedTuple of sixty columns is sixty arrays to a kernel: Python looks at each anew (some 0.15 us), and the compiler
carries four hundred numbers through every function they pass. A handle is the same record behind one pointer
(numba's `structref`): made once by `hold`, read in kernels under the names of the NamedTuple's fields, and as small
an argument at the tenth level as at the first. A record within the record is a handle too; a record of plain numbers
is copied and stays a NamedTuple. Kernels themselves stay plain functions on columns, and take either.

In a handle the columns are addresses without an owner, so that reading one counts no references; the Python object
keeps the columns alive.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import config, typeof, types
from numba.core import cgutils
from numba.experimental import structref
from numba.experimental.jitclass.base import imp_dtor
from numba.extending import intrinsic
from numba.np import arrayobj

from droop.numerics import strict

# numba's builders of code carry no types of their own.
CODE: Final[Any] = cgutils
ARRAYS: Final[Any] = arrayobj
ENDING: Final[Any] = imp_dtor
TYPES: Final[Any] = types
OF: Final[Any] = typeof
SETTINGS: Final[Any] = config
Table = npt.NDArray[np.int64]


@structref.register
class HandleType(types.StructRef):
    """numba's type of a handle, by its record's name and the types of its fields."""

    def __init__(self, record: str, fields: Any) -> None:
        begin: Any = super().__init__
        begin(fields)
        # A short name: it becomes part of every function's that takes a handle.
        self.name = f"{record}.{hashlib.sha256(str(self._fields).encode()).hexdigest()[:12]}"


class Handle(structref.StructRefProxy):
    """A record in the form kernels take; made by `hold`."""

    kept: Any  # the columns


_boxing: Any = structref.define_boxing
_boxing(HandleType, Handle)


def _type(value: Any) -> Any:
    """numba's type of a record's field; one with columns in it becomes a handle's."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        kinds = [_type(field) for field in value]
        if any(isinstance(kind, types.Array | HandleType) for kind in kinds):
            return HandleType(type(value).__name__, tuple(zip(value._fields, kinds, strict=True)))
        return TYPES.NamedTuple(kinds, type(value))
    # A number held is any number.
    return types.float64 if isinstance(value, float) else TYPES.unliteral(OF(value))


def _list(value: Any, table: list[int]) -> None:
    """What `_read` takes from the table, in its order: an array's address and shape, a number's bits."""
    if isinstance(value, tuple):
        for field in value:
            _list(field, table)
    elif isinstance(value, np.ndarray):
        if not value.flags.c_contiguous:
            raise ValueError("hold: a column must lie in one piece")
        table += [value.ctypes.data, *value.shape]
    elif isinstance(value, float):
        table.append(struct.unpack("<q", struct.pack("<d", value))[0])
    else:
        table.append(int(value))


def _array(context: Any, builder: Any, kind: Any, words: Any) -> Any:
    """An array without an owner from its address and shape."""
    size = context.get_abi_sizeof(context.get_data_type(kind.dtype))
    data = ARRAYS.make_array(kind)(context, builder)
    address, shape = words[0], words[1:]
    strides: list[Any] = []
    step = context.get_constant(types.intp, size)
    for extent in reversed(shape):
        strides.insert(0, step)
        step = builder.mul(step, extent)
    pointer = builder.inttoptr(address, data.data.type)
    ARRAYS.populate_array(data, pointer, shape, strides, context.get_constant(types.intp, size), None)
    return data._getvalue()


def _read(context: Any, builder: Any, kind: Any, next_word: Any) -> Any:
    """Code that makes a value of this type from the table."""
    if isinstance(kind, HandleType):
        values = [_read(context, builder, field, next_word) for _, field in kind._fields]
        return _record(context, builder, kind, values)
    if isinstance(kind, types.NamedTuple):
        return context.make_tuple(builder, kind, [_read(context, builder, field, next_word) for field in kind.types])
    if isinstance(kind, types.Array):
        return _array(context, builder, kind, [next_word() for _ in range(1 + kind.ndim)])
    if kind == types.float64:
        return builder.bitcast(next_word(), context.get_value_type(kind))
    return context.cast(builder, next_word(), types.int64, kind)


def _record(context: Any, builder: Any, kind: Any, values: list[Any]) -> Any:
    """Code that makes a record of these values."""
    layout = context.data_model_manager[kind.get_data_type()].get_value_type()
    size = context.get_constant(types.uintp, context.get_abi_sizeof(layout))
    owner = context.nrt.meminfo_alloc_dtor(builder, size, ENDING(context, builder.module, kind))
    pointer = builder.bitcast(context.nrt.meminfo_data(builder, owner), layout.as_pointer())
    builder.store(CODE.get_null_value(layout), pointer)
    fields = CODE.create_struct_proxy(kind.get_data_type())(context, builder, ref=pointer)
    for (name, _), value in zip(kind._fields, values, strict=True):
        setattr(fields, name, value)
    record = context.make_helper(builder, kind)
    record.meminfo = owner
    return record._getvalue()


@intrinsic
def _made(_typing: Any, kind: Any, table: Any) -> Any:
    """A handle of type `kind` from its table."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        words = ARRAYS.make_array(signature.args[1])(context, builder, args[1]).data
        place = iter(range(1 << 20))

        def next_word() -> Any:
            return builder.load(CODE.gep_inbounds(builder, words, next(place)))

        return _read(context, builder, signature.return_type, next_word)

    return kind.instance_type(kind, table), code


MADE: Final[Any] = _made


@strict
def _make(kind: Any, table: Table) -> Any:
    """`_made`, as Python calls it."""
    return MADE(kind, table)


def hold(value: Any) -> Any:
    """A handle on a NamedTuple of arrays; later writes to the arrays are seen through it.

    Numbers in it are copied; ValueError for an array that does not lie in one piece. Where numba is told not to
    compile (NUMBA_DISABLE_JIT), kernels are plain Python, and the record serves as it is.
    """
    if SETTINGS.DISABLE_JIT:
        return value
    table: list[int] = []
    _list(value, table)
    handle: Handle = _make(_type(value), np.array(table, np.int64))
    handle.kept = value
    return handle
