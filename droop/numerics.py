"""How every kernel is compiled: one named fast-math policy, one decorator, one honest cache.

The fast-math set leaves out `nnan` and `ninf`: with them a NaN in a report makes comparisons lie. Without
them the kernels are as fast (within noise), and NaN, which the doors stop, would stay visible if it came
through.

Compiled kernels are kept between runs. numba looks only at the file of the function it loads, not at the
files of the functions compiled into it, so an edited `limits.py` would go unseen by a cached `step.py`. The
cache folder is therefore named after the content of the whole package.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import numba
from numba import njit, types
from numba.core.registry import cpu_target

HONEST: Final = frozenset({"nsz", "arcp", "contract", "afn", "reassoc"})

# Float32 partial sums are carried over at most this many elements before they enter a float64 total, and a
# slice of this length lets the compiler drop the wrap-around check that stops it from vectorising.
BLOCK: Final = 4096

F = TypeVar("F", bound=Callable[..., Any])


def _digest() -> str:
    """Content of the package's sources, in twelve hexadecimal digits."""
    sha = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        sha.update(path.read_bytes())
    return sha.hexdigest()[:12]


def cache_folder() -> Path | None:
    """Where this version's compiled kernels lie; None where no private folder can be had.

    `NUMBA_CACHE_DIR`, then the user's cache folder. The cache is loaded as code, so a folder that others
    could write to is refused.
    """
    named = os.environ.get("NUMBA_CACHE_DIR")
    home = os.environ.get("XDG_CACHE_HOME") or (str(Path.home() / ".cache") if os.environ.get("HOME") else None)
    for base in (named, home):
        if base is None:
            continue
        folder = Path(base) / f"flyball-kernels-{_digest()}"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = folder.stat()
        except OSError:
            continue
        private = status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if private and os.access(folder, os.W_OK):
            return folder
    return None


def machine() -> str:
    """What a compiled kernel depends on beside its source (Python, numba, the processor), in twelve digits."""
    target: Any = cpu_target
    facts = sys.version, numba.__version__, target.target_context.codegen().magic_tuple()
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]


_FOLDER: Final = cache_folder()


def _compile(function: F, **options: Any) -> F:
    """`njit`, with its cache in our folder: the setting is read while the decorator runs, and put back after."""
    config: Any = numba.config
    build: Any = njit
    before = config.CACHE_DIR
    config.CACHE_DIR = str(_FOLDER or "")
    try:
        # No kernel is handed to C as a function: no code for that.
        compiled = build(
            cache=_FOLDER is not None, nogil=True, error_model="numpy", no_cfunc_wrapper=True, **options
        )(function)  # fmt: skip
    finally:
        config.CACHE_DIR = before
    if not config.DISABLE_JIT:
        _take_plain(compiled)
    return cast(F, compiled)


def _take_plain(compiled: Any) -> None:
    """Have a call with a constant compiled as one with any number: else `f(0)` and `f(n)` are two functions, and the
    first guess at a loop's counter, which begins as a constant, a third."""
    template = compiled.get_call_template

    def plain(args: Any, kws: Any) -> Any:
        unliteral: Any = types.unliteral
        return template(tuple(unliteral(kind) for kind in args), {name: unliteral(kws[name]) for name in kws})

    compiled.get_call_template = plain


def kernel(function: F) -> F:
    """Compile `function` on first use: no Python objects, GIL released, honest NaN."""
    return _compile(function, fastmath=set(HONEST))


def inner(function: F) -> F:
    """As `kernel`, for the body of a loop: always compiled into its caller, where a call with many numbers costs more
    than what is done with them."""
    return _compile(function, fastmath=set(HONEST), forceinline=True)


def strict(function: F) -> F:
    """As `kernel`, with IEEE arithmetic in the order written: for energy, and whatever settlement computes again."""
    # Said, not left out: a function compiled on behalf of a fast-math caller inherits the caller's flags, and what
    # it computes would depend on who called it first.
    return _compile(function, fastmath=False)
