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
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    left.plot(steps, [point.loss for point in points], color="#444", linewidth=1.6)
    left.set(title=f"{title}: training loss", xlabel="step")
    names = [name for name in points[0].heldout if name != "score"] if points else []
    for name in (name for name in names if name.endswith((" @1", " @10"))):
        style = "-" if name.endswith("@1") else "--"
        right.plot(steps, [100 * point.heldout[name] for point in points], style, linewidth=1.4, label=name)
    if points:
        best = max(points, key=lambda point: point.score)
        right.axvline(best.step, color="#bbb", linewidth=1, zorder=0)
    right.set(title="held-out hit rate, %", xlabel="step", ylim=(0, None))
    if names:
        right.legend(fontsize=7, ncols=2, frameon=False)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
