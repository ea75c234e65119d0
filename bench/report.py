"""What every benchmark gives: a table, and the same rows in `bench/results/NAME.json`."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

WIDTH = 110
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One number: the median of `runs` measurements, and their extremes."""

    case: str
    metric: str
    value: float
    unit: str
    runs: int
    min: float
    max: float

    @classmethod
    def of(cls, case: str, metric: str, unit: str, values: Sequence[float]) -> Row:
        """Return the row of these measurements, at least one."""
        return cls(
            case,
            metric,
            _short(statistics.median(values)),
            unit,
            len(values),
            _short(min(values)),
            _short(max(values)),
        )


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def replaced(name: str, rows: Sequence[Row]) -> list[Row]:
    """Return the rows of the file `name`, these in the place of those that they renew."""
    new = {(row.case, row.metric): row for row in rows}
    text = (RESULTS / f"{name}.json").read_text(encoding="utf-8")
    old = [Row(**row) for row in json.loads(text)["rows"]]
    kept = [new.pop((row.case, row.metric), row) for row in old]
    return [*kept, *new.values()]


def publish(name: str, title: str, rows: Sequence[Row], folder: Path = RESULTS) -> None:
    """Print the rows and write them to the file of results `name` in a folder."""
    table = Table(title=title, title_justify="left", box=None)
    for column in ("case", "metric", "median", "min", "max", "unit", "runs"):
        number = column in {"median", "min", "max", "runs"}
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        numbers = [f"{number:g}" for number in (row.value, row.min, row.max)]
        table.add_row(row.case, row.metric, *numbers, row.unit, str(row.runs))
    Console(width=WIDTH).print(table)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"rows": [asdict(row) for row in rows]}, indent=1)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
