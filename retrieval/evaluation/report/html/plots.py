"""Numbers -> drawings: SVG that scales, takes its colours from the page's style sheet and says in words what it shows.

Pure functions to text that is safe to stand in a page. Knows nothing of benchmarks or files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

#: One unit is about a pixel on a telephone, so that words stay readable there.
_WIDTH, _HEIGHT = 360, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 18, 10, 36


@dataclass(frozen=True, slots=True)
class Line:
    """A named line of points; ``shade`` picks the colour and the dashes, counted from 0."""

    name: str
    points: Sequence[tuple[float, float]]
    shade: int


def curve_plot(lines: Sequence[Line], *, title: str) -> str:
    """Shares (0 to 1) over k from 1 to the last k, k by its logarithm."""
    to = max([k for line in lines for k, _ in line.points], default=1)
    ticks = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if k <= to]

    def x(k: float) -> float:
        return _across(math.log(k) / math.log(to) if to > 1 else 0.0)

    parts = [
        _frame(
            [(x(k), str(k)) for k in ticks],
            [(_up(share / 4), f"{25 * share}%") for share in range(5)],
            "k: how many are looked at",
        )
    ]
    for line in lines:
        path = " ".join(f"{'L' if n else 'M'}{x(k):.1f} {_up(share):.1f}" for n, (k, share) in enumerate(line.points))
        parts.append(f'<path class="line s{line.shade}" d="{path}"/>')
    description = "; ".join(_described(line) for line in lines)
    return _svg(parts, title, description)


def histogram_plot(
    low: float, high: float, series: Sequence[tuple[str, Sequence[int], int]], *, title: str, description: str
) -> str:
    """Counts in equal bins over [``low``, ``high``], each series as shares of its own total: (name, counts, shade)."""
    shares = [(name, _shares(counts), shade) for name, counts, shade in series]
    top = max([share for _, values, _ in shares for share in values], default=0.0) or 1.0
    width = (high - low) or 1.0
    parts = [
        _frame(
            [(_across((tick - low) / width), _number(tick)) for tick in _ticks(low, high)],
            [(_up(0.0), "0"), (_up(1.0), f"{100 * top:.0f}%")],
            "cosine similarity",
        )
    ]
    for _, values, shade in shares:
        n = len(values)
        path = [f"M{_across(0):.1f} {_up(0):.1f}"]
        for i, share in enumerate(values):
            path.append(
                f"L{_across(i / n):.1f} {_up(share / top):.1f} L{_across((i + 1) / n):.1f} {_up(share / top):.1f}"
            )
        path.append(f"L{_across(1):.1f} {_up(0):.1f} Z")
        parts.append(f'<path class="area s{shade}" d="{" ".join(path)}"/>')
    return _svg(parts, title, description)


def reliability_plot(bins: Sequence[tuple[float, float, int]], *, title: str, description: str) -> str:
    """Of each filled bin (mean probability, share that is true, pairs); on the diagonal they mean what they say."""
    ticks = [0.0, 0.25, 0.5, 0.75, 1.0]
    parts = [
        _frame(
            [(_across(tick), f"{100 * tick:.0f}%") for tick in ticks],
            [(_up(tick), f"{100 * tick:.0f}%") for tick in ticks],
            "match probability given; upwards, the share that matched",
        ),
        f'<path class="ideal" d="M{_across(0):.1f} {_up(0):.1f} L{_across(1):.1f} {_up(1):.1f}"/>',
    ]
    path = " ".join(f"{'L' if n else 'M'}{_across(p):.1f} {_up(share):.1f}" for n, (p, share, _) in enumerate(bins))
    if path:
        parts.append(f'<path class="line s0" d="{path}"/>')
    most = max([n for _, _, n in bins], default=1)
    for probability, share, n in bins:
        radius = 2.0 + 4.0 * math.sqrt(n / most)
        parts.append(f'<circle class="dot s0" cx="{_across(probability):.1f}" cy="{_up(share):.1f}" r="{radius:.1f}"/>')
    return _svg(parts, title, description)


def difference_plot(rows: Sequence[tuple[str, float, float, float]], *, title: str, description: str) -> str:
    """Differences with their intervals, in points of a hundred: (name, difference, low, high), one below the other."""
    name_width, row_height = 104, 22
    height = _TOP + row_height * len(rows) + _BOTTOM
    ends = [end for _, *values in rows for end in values] or [0.0]
    low, high = min(0.0, *ends), max(0.0, *ends)
    margin = 0.06 * ((high - low) or 1.0)
    low, high = low - margin, high + margin

    def x(value: float) -> float:
        return name_width + (_WIDTH - name_width - _RIGHT) * (value - low) / (high - low)

    bottom = height - _BOTTOM
    parts = [
        f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{_TOP}" y2="{bottom}"/>'
        f'<text x="{x(tick):.1f}" y="{bottom + 14}" text-anchor="middle">{_signed(tick)}</text>'
        for tick in _ticks(low, high)
    ]
    parts.append(f'<line class="zero" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="{_TOP}" y2="{bottom}"/>')
    parts.append(f'<text x="{x((low + high) / 2):.1f}" y="{height - 6}" text-anchor="middle">points</text>')
    for n, (name, value, least, most) in enumerate(rows):
        y = _TOP + row_height * (n + 0.5)
        parts.append(
            f'<text x="{name_width - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(name)}</text>'
            f'<path class="line s0" d="M{x(least):.1f} {y:.1f} L{x(most):.1f} {y:.1f}"/>'
            f'<circle class="dot s0" cx="{x(value):.1f}" cy="{y:.1f}" r="4"/>'
        )
    return _svg(parts, title, description, height)


# ------------------------------------------------------------------------------------------- helpers


def _svg(parts: Sequence[str], title: str, description: str, height: int = _HEIGHT) -> str:
    label = escape(f"{title}. {description}")
    return (
        f'<svg class="plot" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{label}">'
        f"<title>{escape(title)}</title><desc>{escape(description)}</desc>{''.join(parts)}</svg>"
    )


def _frame(across: Sequence[tuple[float, str]], up: Sequence[tuple[float, str]], label: str) -> str:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = []
    for y, name in up:
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{escape(name)}</text>')
    for x, name in across:
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{escape(name)}</text>')
    middle = (_LEFT + right) / 2
    parts.append(f'<text x="{middle:.1f}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(label)}</text>')
    return "".join(parts)


def _across(share: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * share


def _up(share: float) -> float:
    return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1.0 - share)


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts) or 1
    return [count / total for count in counts]


def _ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers within [``low``, ``high``].

    >>> _ticks(-0.13, 0.91)
    [0.0, 0.2, 0.4, 0.6, 0.8]
    """
    rough = (high - low) / about or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    return [round(n * step, 10) + 0.0 for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _number(value: float) -> str:
    return f"{value:.6g}"


def _signed(value: float) -> str:
    return f"{value:+.6g}" if value else "0"


def _described(line: Line) -> str:
    return f"{line.name}: {', '.join(_points(line))}"


def _points(line: Line) -> Iterator[str]:
    for k, share in line.points:
        if k in (1, 10, 100):
            yield f"{100 * share:.1f}% at k = {k:.0f}"
