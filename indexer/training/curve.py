"""The learning curve as a picture: the loss, and held-out hit rates in %, over the steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from indexer.training.loop import Point


def plot_curve(points: Sequence[Point], path: Path, title: str) -> None:
    """Write a PNG of two panels beside each other."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    steps = [point.step for point in points]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 4.2), layout="constrained")
    left.plot(steps, [point.loss for point in points], color="#444", linewidth=1.6)
    left.set(title=f"{title}: training loss", xlabel="step")
    names = [name.removesuffix(" @1") for name in points[0].heldout if name.endswith(" @1")] if points else []
    for number, name in enumerate(names):  # a colour a direction; @1 drawn through, @10 dashed
        for k, style in ((1, "-"), (10, "--")):
            values = [100 * point.heldout[f"{name} @{k}"] for point in points]
            right.plot(steps, values, style, color=f"C{number}", linewidth=1.4, label=name if k == 1 else None)
    if points:
        best = max(points, key=lambda point: point.score)
        right.axvline(best.step, color="#bbb", linewidth=1, zorder=0)
    right.set(title="held-out hit rate @1 and @10 (dashed), %", xlabel="step", ylim=(0, None))
    if names:
        right.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
