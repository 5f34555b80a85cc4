"""Draws one SVG: source on stdin, PNG on stdout. A program of its own, started by ``svg.py`` for each drawing.

Arguments: the side that is given (width or height), its pixels, "fonts" if words are to be set, seconds of
processor time, bytes of memory, the colour of the ground or "none". Imports nothing of trimodal, so that
it starts quickly.
"""

from __future__ import annotations

import contextlib
import sys


def main() -> int:
    """Exit code 0 with a PNG, 1 with one line on stderr; anything else is a limit that was hit."""
    side, pixels, fonts, cpu_s, memory_bytes, ground = sys.argv[1:7]
    import resvg_py

    source = sys.stdin.buffer.read().decode("utf-8")
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows has no such limits, only svg.py's clock
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (int(cpu_s), int(cpu_s)))
        resource.setrlimit(resource.RLIMIT_AS, (int(memory_bytes), int(memory_bytes)))
        if fonts != "fonts":  # nothing is left to be opened: what svg.py overlooked stays shut
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    try:
        png = resvg_py.svg_to_bytes(
            svg_string=source,
            background=None if ground == "none" else ground,
            dpi=96.0,
            skip_system_fonts=fonts != "fonts",
            width=int(pixels) if side == "width" else None,
            height=int(pixels) if side == "height" else None,
        )
    except ValueError as error:
        sys.stderr.write(" ".join(str(error).split()))
        return 1
    sys.stdout.buffer.write(bytes(png))
    return 0


if __name__ == "__main__":
    sys.exit(main())
