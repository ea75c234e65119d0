"""How fast two downloads were while the guest measured them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

mpl.use("Agg")


@dataclass(frozen=True)
class Sample:
    """Bytes that each download had at a time in seconds."""

    seconds: float
    old: int
    new: int


@dataclass(frozen=True)
class Throughput:
    """What was measured, from the first byte of the old download on."""

    samples: list[Sample]
    deprecated: float

    @classmethod
    def read(cls, folder: Path) -> Throughput:
        """Read the guest's `throughput` and `deprecated`."""
        lines = (folder / "throughput").read_text(encoding="ascii").splitlines()
        rows = [line.split() for line in lines]
        start = float(rows[0][0])
        samples = [Sample(float(now) - start, int(old), int(new)) for now, old, new in rows]
        return cls(samples, float((folder / "deprecated").read_text(encoding="ascii")) - start)

    def old_rate(self) -> float:
        """Return the old download's bytes a second since rate_limit is deprecated."""
        after = [sample for sample in self.samples if sample.seconds >= self.deprecated]
        return (after[-1].old - after[0].old) / (after[-1].seconds - after[0].seconds)

    def new_rate(self) -> float:
        """Return the new download's bytes a second, from its begin to its end."""
        size = self.samples[-1].new
        moving = [now for before, now in pairwise(self.samples) if before.new < size and now.new]
        begin = max((s.seconds for s in self.samples if not s.new), default=0.0)
        return size / (moving[-1].seconds - begin)

    def plot(self, path: Path) -> None:
        """Draw both, in megabytes a second on a logarithmic scale, as a PNG."""
        figure = Figure(figsize=(8, 4), layout="constrained")
        axes = figure.add_subplot()
        for name, label in (("old", "connection before it"), ("new", "connection after it")):
            steps = list(pairwise(self.samples))
            rates = [
                (getattr(now, name) - getattr(before, name)) / (now.seconds - before.seconds) / 1e6
                for before, now in steps
            ]
            shown = [rate or math.nan for rate in rates]
            axes.step([now.seconds for _, now in steps], shown, label=label)
        axes.axvline(self.deprecated, linestyle="--", color="gray", label="rate_limit deprecated")
        axes.set(xlabel="seconds", ylabel="MB a second", yscale="log")
        axes.legend()
        figure.savefig(path, dpi=120)
