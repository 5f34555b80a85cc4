"""Keeps libtiff from writing to the terminal: what is wrong with a picture is in the error that Pillow raises.

Only where libtiff is a library of its own beside Pillow (its wheels for Linux and macOS) or of the system.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
from pathlib import Path

import PIL
from PIL import features


@functools.cache
def silence_libtiff() -> bool:
    """Take libtiff's own printer away, once for the process. False where the library is not found."""
    if not features.check("libtiff"):
        return False
    package = Path(PIL.__file__).parent
    found = [*package.parent.glob("pillow.libs/libtiff*.so*"), *package.glob(".dylibs/libtiff*.dylib")]
    for name in [*map(str, found), *([] if found else ["libtiff.so.6", "libtiff.so.5"])]:
        with contextlib.suppress(OSError, AttributeError):
            set_handler = ctypes.CDLL(name).TIFFSetErrorHandler
            set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            set_handler(None)
            return True
    return False
