"""Tables of trained networks: two formats behind one reader."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evonas.data import Dataset, Part
from evonas.errors import DataError
from evonas.files import decoding, expanded, read_json
from evonas.networks.nasbench201_plan import EDGES, OPERATIONS
from evonas.spaces import NasBench201Space
from evonas.spaces.table import TableSpace
from evonas.types import Cost, EvaluationResult, Genome

__all__ = ["ScoreTable", "read_table"]

Genes = tuple[int, ...]
Scores = dict[Genes, dict[str, float]]

COSTS = ("params", "macs", "flops")
"""Columns of a table of cells that are not read: the space has its own, of the networks as they are built here."""
DATA_SETS = {
    r"cifar[-_ ]?100": ("cifar100", 100, 32),
    r"imagenet[-_ ]?16": ("imagenet16-120", 120, 16),
    r"cifar[-_ ]?10(?!0)": ("cifar10", 10, 32),
}
"""Words of a table -> data set, classes, height and width of the images."""


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """Trained networks with what was measured on them."""

    space: NasBench201Space | TableSpace
    data: Dataset
    """Name and classes of the data set that they were trained on; without images."""
    columns: tuple[str, ...]
    """Errors that the table has, in its order: `autoattack_8_error` for its accuracies `autoattack_8`."""
    scores: Mapping[Genes, Mapping[str, float]]
    """Canonical genome -> errors, fractions in [0, 1]; a value that the table lacks is left out."""
    note: str
    """Origin of the table in a line."""
    fingerprint: str
    """SHA-256 over everything above but the note, 32 hexadecimal digits."""

    def errors(self, genome: Sequence[int] | Genome) -> Mapping[str, float]:
        """Errors of a genome. DataError where the table does not have it."""
        canonical = tuple(self.space.canonical(np.asarray(genome)).tolist())
        if canonical not in self.scores:
            raise DataError(f"the network {self.space.describe(np.array(canonical))} is not in the table")
        return self.scores[canonical]

    def evaluate(self, genome: Genome, seed: int) -> EvaluationResult:
        """Everything that is known of a genome, as `evolve` and `NASProblem` want it; one that is missing is failed."""
        try:
            errors, cost = self.errors(genome), self.space.cost(genome, self.data.n_classes)
        except DataError as error:
            return EvaluationResult.failure(genome, seed, error)
        return EvaluationResult(tuple(genome), {**errors, "params": cost.params, "macs": cost.macs}, seed=seed)


def read_table(path: Path | str) -> ScoreTable:
    """The table in a JSON file.

    Two formats are known: cells of NAS-Bench-201 with the accuracies of each (`edges`, `operations`, `columns`,
    `accuracies`, as in NAS-RobBench-201), and networks of numbered choices with accuracy, parameters and FLOPs (as in
    NAS-Bench-Macro).

    Raises:
        StorageError: the file cannot be read.
        DataError: it holds something else.
    """
    file = expanded(path)
    content = read_json(file)
    with decoding(f"expected a table of trained networks in {file}", "restore it, or name another"):
        return _of_cells(content, file) if "accuracies" in content else _of_choices(content, file)


def _of_cells(content: Mapping[str, Any], file: Path) -> ScoreTable:
    """Table of cells of NAS-Bench-201; of equal cells the canonical one counts, else the first."""
    places = _permutation(content.get("edges"), [f"{start}-{end}" for start, end in EDGES], "edges")
    meaning = _operations(content.get("operations"))
    columns: Any = content.get("columns")
    accuracies: Any = content["accuracies"]
    _require(isinstance(columns, list) and all(_is_name(name) for name in columns), f"its columns are {columns!r:.80}")
    _require(len({*columns}) == len(columns), "a column is there twice")
    _require(isinstance(accuracies, dict) and bool(accuracies), "it has no accuracies")
    name, n_classes, size, note = _data_of(content, file)
    space = NasBench201Space(image_size=size)
    kept = [(number, f"{column}_error") for number, column in enumerate(columns) if column not in COSTS]
    _require(bool(kept), "it has no column of accuracies")
    scores: Scores = {}
    for architecture, row in accuracies.items():
        _require(isinstance(row, list) and len(row) == len(columns), f"its row {architecture!r:.40} is {row!r:.80}")
        genes = _cell(architecture, places, meaning)
        canonical = tuple(space.canonical(np.array(genes)).tolist())
        errors = {error: _error(row[number], 1, architecture) for number, error in kept if row[number] is not None}
        if canonical not in scores or genes == canonical:
            scores[canonical] = errors
    return _table(space, _no_images(name, n_classes, size), [error for _, error in kept], scores, note)


def _of_choices(content: Mapping[str, Any], file: Path) -> ScoreTable:
    """Table of networks of numbered choices, one digit each."""
    _require(bool(content), "it is empty")
    names = [*content]
    _require(
        all(re.fullmatch(r"[0-9]+", name) and len(name) == len(names[0]) for name in names),
        f"it has neither `accuracies` nor networks of equally many digits, but {', '.join(names)!r:.80}",
    )
    scores: Scores = {}
    costs: dict[Genes, Cost] = {}
    for network, row in content.items():
        _require(isinstance(row, dict), f"its row {network!r:.40} is {row!r:.80}")
        genes = tuple(map(int, network))
        found = row.get("mean_acc", row.get("test_acc"))
        each = found if isinstance(found, list) and found else [found]
        errors = [_error(accuracy, 100, network) for accuracy in each if accuracy is not None]
        scores[genes] = {"clean_error": sum(errors) / len(errors)} if errors else {}
        costs[genes] = Cost(_count(row, "params", network), _count(row, "flops", network))
    highest = tuple(max(column) for column in zip(*scores, strict=True))
    name, n_classes, size, note = _data_of({}, file)
    return _table(TableSpace(highest, costs), _no_images(name, n_classes, size), ["clean_error"], scores, note)


def _table(
    space: NasBench201Space | TableSpace, data: Dataset, columns: Sequence[str], scores: Scores, note: str
) -> ScoreTable:
    costs = sorted(space.costs.items()) if isinstance(space, TableSpace) else []
    content = [space.name, data.name, data.n_classes, data.image_size, [*columns], sorted(scores.items()), costs]
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return ScoreTable(space, data, tuple(columns), scores, note, hashlib.sha256(text.encode()).hexdigest()[:32])


def _data_of(content: Mapping[str, Any], file: Path) -> tuple[str, int, int, str]:
    """Data set, classes and image size by the words of a table or the name of its file, and a line on its origin."""
    told = [str(content[key]) for key in ("data", "what", "licence", "license") if content.get(key)]
    note = "; ".join(("".join(letter if letter.isprintable() else "?" for letter in each)[:300]) for each in told)
    named = [
        {known for words, known in DATA_SETS.items() if re.search(words, text, re.IGNORECASE)}
        for text in (*told, file.name)
    ]
    for found in named:
        if len(found) == 1:
            (known,) = found
            return (*known, f"table: {note or file.name}; data: {known[0]}")
    _require(not any(named), 'it names several data sets, expected one as "data"')
    return (*DATA_SETS[r"cifar[-_ ]?10(?!0)"], f"table: {note or file.name}; it names no data set: taken for CIFAR-10")


def _no_images(name: str, n_classes: int, size: int) -> Dataset:
    """The data set of a table: a name and its classes, without images."""
    none = Part(np.empty((0, 3, size, size), dtype=np.uint8), np.empty(0, dtype=np.int64))
    return Dataset(name, n_classes, none, none, none, none, (0.0,) * 3, (1.0,) * 3, flip=False)


def _cell(architecture: str, places: Sequence[int], meaning: Sequence[int]) -> Genes:
    """Genes of a row's key: a digit an edge, or the benchmark's own form."""
    if architecture.startswith("|"):
        return tuple(NasBench201Space().from_string(architecture).tolist())
    fits = len(architecture) == len(EDGES) and all("0" <= digit < str(len(meaning)) for digit in architecture)
    _require(fits, f"a network is called {architecture!r:.40}")
    return tuple(meaning[int(architecture[place])] for place in places)


def _operations(given: Any) -> list[int]:
    """Operation that each digit of a table stands for, as a gene."""
    _require(
        isinstance(given, list) and bool(given) and all(isinstance(name, str) for name in given),
        f"its operations are {given!r:.80}",
    )
    unknown = [name for name in given if name not in OPERATIONS]
    _require(not unknown and len({*given}) == len(given), f"its operations are {', '.join(given)!r:.80}")
    return [OPERATIONS.index(name) for name in given]


def _permutation(given: Any, known: Sequence[str], what: str) -> list[int]:
    """Place in the table of each of ours."""
    same = isinstance(given, list) and len(given) == len(known) and all(name in given for name in known)
    _require(same, f"its {what} are {given!r:.80}, expected {', '.join(known)}")
    return [given.index(name) for name in known]


def _error(accuracy: Any, most: float, network: str) -> float:
    """Error, a fraction to 12 digits, of an accuracy in [0, most]."""
    number = isinstance(accuracy, int | float) and not isinstance(accuracy, bool)
    _require(number and 0 <= accuracy <= most, f"{network!r:.40} has an accuracy of {accuracy!r:.40}")  # NaN is neither
    return round(1 - float(accuracy) / most, 12)


def _count(row: Mapping[str, Any], name: str, network: str) -> int:
    """A number of parameters or multiply-adds."""
    value: Any = row.get(name)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    _require(number and 0 <= value < 2**63 and math.floor(value) == value, f"{network!r:.40} has {name} {value!r:.40}")
    return int(value)


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and re.fullmatch(r"[a-z][a-z0-9_]{0,40}", name) is not None


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise DataError(otherwise)
