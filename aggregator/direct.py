"""Calling a compiled kernel from another one at its address, as the machine code that Python calls.

A kernel that is called by name is compiled into its caller: the caller takes as long to compile as all of them
together, and a float may come out with another last bit than from the copy that Python calls. At its address it is the
same code, and the caller compiles as if it were not there.
"""
# mypy: disallow-untyped-decorators=False

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from numba import typeof, types
from numba.core import cgutils
from numba.extending import intrinsic

# numba's builders of code carry no types of their own.
CODE: Final[Any] = cgutils
TYPES: Final[Any] = types
OF: Final[Any] = typeof


class Entry(NamedTuple):
    """Where a kernel's machine code lies, and what it takes and returns."""

    at: int
    signature: str


def entry(kernel: Any, *examples: Any) -> Entry:
    """Of the kernel for arguments like these; it is compiled, or loaded, if it must be."""
    kinds = tuple(TYPES.unliteral(OF(example)) for example in examples)
    if kinds not in kernel.overloads:
        kernel.compile(kinds)
    compiled = kernel.overloads[kinds]
    at = int(compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name))
    return Entry(at, f"{kernel.__name__}{compiled.signature}")


def stamped(record: Any, entries: Iterable[Entry], frozen: object = None) -> Any:
    """The NamedTuple as one of a type that is named after these kernels' signatures, and what else is compiled in.

    Who is compiled with it is compiled anew when one of them changes: numba's cache looks at the caller's file alone,
    and an old caller would hand a new kernel what the old one took. frozen : constants of other files
    """
    facts = [each.signature for each in entries], frozen
    digest = hashlib.sha256(repr(facts).encode()).hexdigest()[:12]
    return type(f"{type(record).__name__}_{digest}", (type(record),), {})(*record)


@intrinsic
def _call(typing: Any, kernel: Any, at: Any, given: Any) -> Any:
    """What `kernel` returns for the arguments `given` (a tuple), run at the address `at`, which is its `entry`'s.

    The types are those of the kernel for such arguments; that the address is of that very version is the caller's.
    """
    kind = kernel.get_call_type(typing, tuple(TYPES.unliteral(each) for each in given.types), {})

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        convention, have = context.call_conv, signature.args[2].types
        values = [
            context.cast(builder, value, was, wanted)
            for value, was, wanted in zip(CODE.unpack_tuple(builder, args[2]), have, kind.args, strict=True)
        ]
        layout = convention.get_function_type(kind.return_type, kind.args)
        function = builder.inttoptr(args[1], layout.as_pointer())
        status, result = convention.call_function(builder, function, kind.return_type, kind.args, values)
        with CODE.if_unlikely(builder, status.is_error):
            convention.return_status_propagate(builder, status)
        return result

    return kind.return_type(kernel, at, given), code


call: Final[Any] = _call
