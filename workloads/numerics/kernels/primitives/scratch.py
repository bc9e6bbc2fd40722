"""Memory that is kept between calls, each thread its own: fresh pages cost more than what many
kernels do with them."""

import threading
from typing import Any

import numpy as np

_MOST_BYTES = 32 << 20
"""Of one array. What is larger is not kept: there is more to do with it than to page it in."""

_kept = threading.local()


def scratch(
    name: str, shape: tuple[int, ...], dtype: Any, *, spare: int = 0
) -> "np.ndarray[Any, Any]":
    """An array of whatever values, aligned to 64 bytes, until this thread asks for the next one of
    that name. `spare`: bytes behind it that may be read."""
    kind = np.dtype(dtype)
    size = kind.itemsize
    for extent in shape:
        size *= extent
    space = getattr(_kept, name, None)
    if space is None or space.size < size + spare:
        fresh = np.empty(size + spare + 64, dtype=np.int8)
        skip = -fresh.ctypes.data % 64
        space = fresh[skip : skip + size + spare]
        if size <= _MOST_BYTES:
            setattr(_kept, name, space)
    return space[:size].view(kind).reshape(shape)
