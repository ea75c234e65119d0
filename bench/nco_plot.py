"""The plot of `make bench-nco`: deployed and confirmed, beside the dissertation's prototype."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt

Point = tuple[int, float]
"""Agents, seconds."""

DISSERTATION: Sequence[Point] = ((10, 0.28), (50, 1.46), (100, 3.2), (175, 5.97), (250, 8.48))
"""Lukaszewski 2022: seconds until a module was deployed on that many hosts."""

GOALS: Sequence[Point] = ((250, 0.25), (1000, 0.75), (10000, 5.0))


def draw(path: Path, deployed: Sequence[Point], rotated: Sequence[Point]) -> None:
    """Write the plot to `path`."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for points, label, style in (
        (DISSERTATION, "dissertation's prototype: deployed", "s-"),
        (deployed, "deployed and confirmed", "o-"),
        (rotated, "rotated and confirmed", "^-"),
        (GOALS, "goal for deployment", "kx"),
    ):
        if points:
            axes.loglog(*zip(*points, strict=True), style, label=label)
    axes.set_xlabel("agents")
    axes.set_ylabel("seconds")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)
