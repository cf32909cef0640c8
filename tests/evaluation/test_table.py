"""Tables of trained networks: both formats, what they leave out, and what is no table."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_tables import EDGES, accuracies_of, table_of_cells, table_of_choices, written

from evonas.errors import ConfigurationError, DataError, EvonasError
from evonas.evaluation import Evaluator, LookUp, read_table, table_objectives
from evonas.evaluation.table import ScoreTable
from evonas.executors import ignore
from evonas.spaces import NasBench201Space
from evonas.spaces.table import TableSpace

CONVS = (3, 3, 3, 3, 3, 3)


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> ScoreTable:
    return read_table(written(tmp_path_factory.mktemp("tables") / "cells.json", table_of_cells()))


def small(**changes: Any) -> dict[str, Any]:
    """A table of three cells."""
    rows = {"".join(map(str, cell)): accuracies_of(cell) for cell in (CONVS, (1, 1, 1, 1, 1, 1), (2, 2, 2, 2, 2, 2))}
    return {**table_of_cells(every=10**6), "accuracies": rows, **changes}


def read(tmp_path: Path, content: Any, name: str = "table.json") -> ScoreTable:
    return read_table(written(tmp_path / name, content))


def test_errors_of_a_cell_are_one_minus_its_accuracies(cells: ScoreTable) -> None:
    assert cells.columns == ("clean_error", "pgd_8_error", "autoattack_8_error")
    assert cells.errors(CONVS) == {"clean_error": 0.4, "pgd_8_error": 0.6, "autoattack_8_error": 0.7333}
    assert len(cells.scores) == 6466
    assert (cells.data.name, cells.data.n_classes, cells.data.image_size) == ("cifar10", 10, 32)
    assert cells.note == "table: made-up accuracies on CIFAR-10; none; data: cifar10"
    assert cells.space == NasBench201Space()


def test_an_evaluation_has_errors_and_exact_costs(cells: ScoreTable) -> None:
    result = cells.evaluate(np.array(CONVS), 7)
    assert (result.ok, result.seed, result.seconds) == (True, 7, 0)
    costs = {"params": 1_531_546, "macs": 220_119_680}
    assert result.objectives == {"clean_error": 0.4, "pgd_8_error": 0.6, "autoattack_8_error": 0.7333, **costs}


def test_of_equal_cells_the_canonical_one_counts(cells: ScoreTable) -> None:
    """Node 1 leads nowhere: its convolution would be worth .05."""
    equal = np.array([3, 0, 0, 3, 0, 0])
    canonical = tuple(cells.space.canonical(equal).tolist())
    assert cells.errors(equal)["clean_error"] == round(1 - accuracies_of(canonical)[0], 12)
    assert accuracies_of(canonical) != accuracies_of(tuple(equal.tolist()))


def test_digits_mean_what_the_table_says(tmp_path: Path) -> None:
    """Operations and edges in another order, two operations fewer; keys in the benchmark's form as well."""
    edges, operations = EDGES[::-1], ["nor_conv_3x3", "none", "skip_connect"]
    rows = {"021101": [0.25], NasBench201Space().to_string(np.array(CONVS)): [0.75]}
    table = read(tmp_path, small(edges=edges, operations=operations, columns=["clean"], accuracies=rows))
    assert table.errors([0, 3, 0, 0, 1, 3]) == {"clean_error": 0.75}
    assert table.errors(CONVS) == {"clean_error": 0.25}


def test_data_sets_by_the_words_of_a_table_or_its_file(tmp_path: Path) -> None:
    hundred = read(tmp_path, small(what="accuracies on CIFAR-100"))
    assert (hundred.data.name, hundred.data.n_classes) == ("cifar100", 100)
    assert hundred.evaluate(np.array(CONVS), 0).objectives["params"] == 1_531_546 + 90 * 65
    imagenet = read(tmp_path, {**small(), "what": ""}, "robbench-ImageNet16-120.json")
    assert (imagenet.data.name, imagenet.data.n_classes, imagenet.space.image_size) == ("imagenet16-120", 120, 16)  # type: ignore[union-attr]
    assert "names no data set: taken for CIFAR-10" in read(tmp_path, small(what="")).note
    several = small(what="CIFAR-10 part of a table on CIFAR-10, CIFAR-100 and ImageNet16-120")
    assert read(tmp_path, {**several, "data": "cifar10"}).data.name == "cifar10"
    assert read(tmp_path, several, "robbench-cifar100.json").note.endswith("; data: cifar100")
    with pytest.raises(DataError, match='it names several data sets, expected one as "data"'):
        read(tmp_path, several, "table.json")


def test_a_network_that_is_missing_is_failed_and_says_so(tmp_path: Path) -> None:
    table = read(tmp_path, small())
    result = table.evaluate(np.array([3, 0, 0, 0, 1, 0]), 0)
    assert (result.ok, result.objectives) == (False, {})
    assert result.reason.startswith("the network |none~0|+|none~0|none~1|+|nor_conv_3x3~0|")
    assert result.reason.endswith("is not in the table")


def test_a_value_that_is_missing_fails_where_it_is_searched(tmp_path: Path) -> None:
    content = small()
    content["accuracies"]["333333"][1] = None
    table = read(tmp_path, content)

    def evaluated(*names: str) -> Any:
        evaluate = Evaluator(LookUp(table), table_objectives(table, names), 1).make_evaluate(ignore)
        return evaluate(np.array(CONVS), 0)

    searched = evaluated("pgd_8_error", "params")
    assert searched.reason == f"the table has no pgd_8_error of {table.space.describe(np.array(CONVS))}"
    beside = evaluated("autoattack_8_error", "params")  # a column with a gap is not recorded beside
    assert {*beside.objectives} == {"autoattack_8_error", "params", "clean_error", "macs"}
    assert beside.objectives["params"] == 1_531_546


def test_objectives_are_columns_of_the_table(cells: ScoreTable) -> None:
    names = [part.name for part in table_objectives(cells, ("macs", "pgd_8_error"))]
    assert names == ["macs", "pgd_8_error", "clean_error", "autoattack_8_error"]
    with pytest.raises(
        ConfigurationError, match=r"expected --objectives among clean_error,.*got pgd_error; did you mean"
    ):
        table_objectives(cells, ("pgd_error",))


def test_networks_of_choices(tmp_path: Path) -> None:
    table = read(tmp_path, table_of_choices(), "macro.json")
    assert isinstance(table.space, TableSpace)
    assert (table.space.n_genes, table.space.upper.tolist(), table.columns) == (3, [2, 2, 2], ("clean_error",))
    result = table.evaluate(np.array([0, 1, 2]), 0)
    assert result.objectives == {"clean_error": pytest.approx(0.169), "params": 4000, "macs": 150_000}
    assert table.space.max_cost() == (7000, 150_000)
    rows = table_of_choices()
    del rows["012"]
    rows["111"]["mean_acc"] = None
    partly = read(tmp_path, rows, "macro.json")
    assert partly.evaluate(np.array([0, 1, 2]), 0).reason == "the network 0 1 2 is not in the table"
    assert partly.fingerprint != table.fingerprint


def test_the_fingerprint_is_that_of_the_numbers(tmp_path: Path) -> None:
    content = small()
    first = read(tmp_path, content).fingerprint
    assert read(tmp_path, {**content, "licence": "another"}, "moved.json").fingerprint == first
    content["accuracies"]["333333"][0] += 0.001
    assert read(tmp_path, content).fingerprint != first


def wrong_tables() -> dict[str, Any]:
    rows = small()["accuracies"]
    return {
        "no object": [],
        "empty": {},
        "other keys": {"hello": 1},
        "edges": small(edges=EDGES[:5]),
        "operations": small(operations=["none", "conv"]),
        "operation twice": small(operations=["none", "none"]),
        "no columns": small(columns=[]),
        "column twice": small(columns=["clean", "clean", "pgd_8"]),
        "column name": small(columns=["clean", "pgd 8", "autoattack_8"]),
        "no rows": small(accuracies={}),
        "rows": small(accuracies=[1]),
        "short row": small(accuracies={**rows, "000000": [0.1]}),
        "digit": small(accuracies={**rows, "000009": [0.1, 0.1, 0.1]}),
        "short key": small(accuracies={**rows, "00000": [0.1, 0.1, 0.1]}),
        "percent": small(accuracies={**rows, "000000": [10, 10, 10]}),
        "negative": small(accuracies={**rows, "000000": [0.1, -0.1, 0.1]}),
        "not a number": small(accuracies={**rows, "000000": [0.1, float("nan"), 0.1]}),
        "text": small(accuracies={**rows, "000000": [0.1, "0.1", 0.1]}),
        "truth": small(accuracies={**rows, "000000": [0.1, True, 0.1]}),
        "choices of other lengths": {"00": {}, "000": {}},
        "choice without costs": {"00": {"mean_acc": 90.0}},
        "choice with half a parameter": {"00": {"mean_acc": 90.0, "params": 0.5, "flops": 1}},
        "choice above 100%": {"00": {"mean_acc": 101.0, "params": 1, "flops": 1}},
        "choice that is a number": {"00": 1},
    }


@pytest.mark.parametrize("name", wrong_tables())
def test_what_is_no_table_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(EvonasError, match=r"^expected .* in .*table\.json") as caught:
        read(tmp_path, wrong_tables()[name])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 800


def test_a_file_that_is_missing_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(EvonasError, match=r"could not read .*nothing\.json"):
        read_table(tmp_path / "nothing.json")


@pytest.mark.lengthy
def test_a_damaged_file_is_a_table_or_one_line(tmp_path: Path) -> None:
    """A thousand changes of a byte, a cut or a doubled piece: read, or refused by one of our errors."""
    rng, refused, read_well = random.Random(0), 0, 0
    texts = [json.dumps(small()).encode(), json.dumps(table_of_choices(1)).encode()]
    for number in range(1000):
        content = bytearray(texts[number % 2])
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(content))
            kind = rng.randrange(3)
            if kind == 0:
                content[at] = rng.randrange(256)
            elif kind == 1:
                del content[at : at + rng.randint(1, 20)]
            else:
                content[at:at] = content[at : at + rng.randint(1, 20)]
        path = tmp_path / "table.json"
        path.write_bytes(content)
        try:
            table = read_table(path)
        except EvonasError as error:
            refused += "\n" not in str(error)
        else:
            read_well += 1
            assert all(0 <= value <= 1 for scores in table.scores.values() for value in scores.values())
    assert refused > 500
    assert refused + read_well == 1000
