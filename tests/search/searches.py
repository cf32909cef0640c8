"""What tests of searches share: an evaluation that fails at times, equality of paths, tables without their clock."""

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np

from evonas.search import SearchState
from evonas.types import EvaluationResult, Genome


def some_fail(table: Any) -> Any:
    """The table, but a third of the networks fails: one raises, one is a failure, one is not finite."""

    def evaluate(genome: Genome, seed: int) -> EvaluationResult:
        kind = int(genome @ [1, 2, 3, 5]) % 9
        if kind == 0:
            raise RuntimeError("out of memory")
        if kind == 3:
            return EvaluationResult.failure(genome, seed, "took too long")
        if kind == 6:
            return EvaluationResult(tuple(genome), {"clean_error": math.nan, "macs": 0})
        result: EvaluationResult = table(genome, seed)
        return result

    return evaluate


def same(a: list[SearchState], b: list[SearchState]) -> bool:
    return len(a) == len(b) and all(
        x.generation == y.generation
        and np.array_equal(x.genomes, y.genomes)
        and np.array_equal(x.objectives, y.objectives, equal_nan=True)
        and np.array_equal(x.rank, y.rank)
        for x, y in zip(a, b, strict=True)
    )


def rows(path: Path) -> list[dict[str, str]]:
    """A table's rows without their timings."""
    with open(path, newline="") as file:
        return [{name: value for name, value in row.items() if name != "train_seconds"} for row in csv.DictReader(file)]
