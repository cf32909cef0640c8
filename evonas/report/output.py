"""Files of a report, each written whole or not at all; equal contents give equal bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evonas.files import replace_file

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["write_csv", "write_png", "write_text"]


def write_text(path: Path, text: str) -> None:
    replace_file(path, lambda file: file.write(text.encode()))


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table with floats in the shortest form that reads back equal, missing values empty."""
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
    """Write rows as `write_csv` does; columns in the given order, or in that of their first appearance."""
    import pandas as pd

    write_csv(path, pd.DataFrame(rows, columns=None if columns is None else list(columns)))


def write_png(path: Path, figure: Figure, dpi: int = 120) -> None:
    replace_file(path, lambda file: figure.savefig(file, format="png", dpi=dpi, metadata={"Software": "evonas"}))
