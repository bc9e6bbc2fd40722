"""Scratch buffers that stay allocated between calls, one set per thread. The page faults of fresh
memory cost more time than many kernels take."""

import threading
from typing import Any

import numpy as np

_MOST_BYTES = 32 << 20
"""Largest buffer that stays allocated, in bytes. A larger buffer is freed: its page faults are a
small part of the work on it."""

_kept = threading.local()


def scratch(
    name: str, shape: tuple[int, ...], dtype: Any, *, spare: int = 0
) -> "np.ndarray[Any, Any]":
    """An uninitialised array of this shape and dtype, aligned to 64 bytes. It is valid until the
    same thread asks for the same name again.

    `spare`: bytes after the array that a kernel may read.
    """
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
