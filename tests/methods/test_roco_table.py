"""Searches of a table: the ordinary run, without training."""

import io
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tiny_runs import genome_of, journal, rows
from tiny_tables import table_of_cells, table_of_choices, written

import evonas
from evonas.cli import main
from evonas.evaluation import read_table
from evonas.methods.roco import RocoOptions
from evonas.methods.roco import run as run_roco
from evonas.search import EvolutionConfig, non_dominated

SEARCH = EvolutionConfig(population=6, generations=3, objectives=("autoattack_8_error", "params"))


def searched(folder: Path, table: Path, **changes: Any) -> str:
    """Run, and give the text on the screen."""
    screen = io.StringIO()
    options = RocoOptions(table=str(table), search=SEARCH, out=folder)
    run_roco(replace(options, **changes), Console(file=screen, width=200))
    return screen.getvalue()


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("tables") / "cells.json", table_of_cells())


@pytest.fixture(scope="module")
def run(cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "cells"
    searched(folder, cells)
    return folder


@pytest.mark.lengthy
class TestRunOfATable:
    def test_a_row_is_what_the_table_has(self, run: Path, cells: Path) -> None:
        table, found = read_table(cells), rows(run / "population.csv")
        assert len(found) == 24
        for row in found:
            genome = genome_of(row)
            errors = table.errors(genome)
            assert {name: float(row[name]) for name in errors} == errors
            assert (int(row["params"]), int(row["macs"])) == table.space.cost(genome)
        assert (run / "front.png").is_file()
        assert not (run / "weights").exists()
        config = json.loads((run / "config.json").read_text())
        assert config["identity"]["table"] == {"fingerprint": table.fingerprint}
        assert config["notes"] == ["table: made-up accuracies on CIFAR-10; none; data: cifar10"]

    def test_it_is_found_again_and_can_be_looked_at(self, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["verify", str(run), "--retrain", "best"]) == 0
        assert "24 networks counted anew, 0 failed ones left out: all counts are equal" in capsys.readouterr().out
        assert main(["show", str(run), "knee"]) == 0
        assert "3 stages of 5 cells, 16 channels" in capsys.readouterr().out
        assert main(["report", str(run)]) == 0
        assert main(["status", str(run)]) == 0
        assert "24/24 evaluations" in capsys.readouterr().out

    def test_networks_without_weights_are_one_line(self, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file = str(run / "net.onnx")
        for words in (["audit", str(run), "best"], ["ship", str(run)], ["export", str(run), "best", "--to", file]):
            assert main(words) == 2
            said = capsys.readouterr().err
            assert said.count("\n") == 1
            assert "looked up in a table; evonas roco --space nasbench201 --init-from" in said
        with pytest.raises(evonas.errors.ConfigurationError, match="looked up in a table"):
            evonas.load_network(run, "best", train_again=True)

    def test_it_continues_with_the_same_table_elsewhere(self, run: Path, cells: Path, tmp_path: Path) -> None:
        folder, moved = tmp_path / "run", tmp_path / "moved.json"
        shutil.copytree(run, folder)
        shutil.copy(cells, moved)
        whole = journal(folder)
        lines = (folder / "journal.jsonl").read_text().splitlines(keepends=True)
        (folder / "journal.jsonl").write_text("".join(lines[:10]))
        assert "continuing: 9 evaluations" in searched(folder, moved)
        assert journal(folder) == whole
        content = table_of_cells()
        content["accuracies"]["333333"][0] = 0.9
        with pytest.raises(evonas.errors.RunMismatchError, match=r"table\.fingerprint is"):
            searched(folder, written(moved, content))

    def test_a_missing_network_is_a_failed_row(self, tmp_path: Path) -> None:
        table = written(tmp_path / "partly.json", table_of_cells(every=3))
        searched(tmp_path / "run", table)
        found = rows(tmp_path / "run" / "population.csv")
        assert {row["status"] for row in found} == {"ok", "failed"}
        known = read_table(table).scores
        assert all((row["status"] == "ok") == (tuple(genome_of(row).tolist()) in known) for row in found)
        reasons = [line.get("reason", "") for line in journal(tmp_path / "run") if line.get("status") == "failed"]
        assert reasons
        assert all(reason.endswith("is not in the table") for reason in reasons)

    def test_networks_of_choices(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        content = table_of_choices(4)
        for network in ("0012", "2101", "1111"):
            del content[network]
        table = written(tmp_path / "choices.json", content)
        config = replace(SEARCH, objectives=("clean_error", "macs"), population=27, generations=2)
        said = searched(tmp_path / "run", table, search=config)
        assert "it names no data set: taken for CIFAR-10" in said
        found = rows(tmp_path / "run" / "population.csv")
        assert [row["params"] for row in found if row["status"] == "failed"] == ["", "", ""]
        ok = [row for row in found if row["status"] == "ok"]
        assert len(ok) == 78  # every network of the table
        values = np.array([[1 - row["mean_acc"] / 100, row["flops"]] for row in content.values()])
        front = rows(tmp_path / "run" / "front.csv")
        assert len(front) == len(non_dominated(values))
        assert main(["verify", str(tmp_path / "run"), "--retrain", "best"]) == 0
        assert main(["show", str(tmp_path / "run"), "best"]) == 0
        assert main(["audit", str(tmp_path / "run"), "best"]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_what_cannot_be_is_one_line(cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "run")]
    objectives = ["--objectives", "autoattack_8_error,params"]
    broken = written(tmp_path / "broken.json", {"accuracies": 3})
    for words, expected in (
        (["--table", str(tmp_path / "none.json"), *objectives], "could not read"),
        (["--table", str(broken), *objectives], "expected a table of trained networks in"),
        (["--table", str(cells)], "got adversarial_set_error; give --objectives autoattack_8_error,params"),
        (["--table", str(cells), "--space", "darts", *objectives], "nasbench201, got --space darts; leave it out"),
        (["--table", str(cells), "--epochs", "3", *objectives], "--epochs changes nothing without training"),
        (["--table", str(cells), "--phases", "2", *objectives], "--phases changes nothing without"),
        (["--table", str(cells), "--data", "digits", *objectives], "--data changes nothing without training"),
        (["--space", "phase", "--cells", "2"], "--cells changes nothing without --space nasbench201 or darts"),
        (["--space", "darts", "--cells", "2"], "expected --cells of at least 3 for darts"),
    ):
        assert main(["roco", *words, *out]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert expected in said
    assert not (tmp_path / "run").exists()


def test_a_search_of_a_table_finds_its_front(cells: Path) -> None:
    """Of all 6,466 classes: what `evolve` finds in 800 evaluations has most of the exact front's hypervolume."""
    from evonas.search import evolve, hypervolume

    table = read_table(cells)
    exact = np.array(
        [[errors["autoattack_8_error"], table.space.cost(genes).params] for genes, errors in table.scores.items()]
    )
    config = EvolutionConfig(population=40, generations=4, objectives=SEARCH.objectives, seed=0)
    (*_, state) = evolve(table.space, table.evaluate, config)
    reference = exact.max(axis=0) * 1.01
    share = hypervolume(state.objectives, reference) / hypervolume(exact, reference)
    assert 0.9 < share <= 1 or math.isclose(share, 1)
