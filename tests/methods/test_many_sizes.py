"""Runs with several preferences: one search, a row for each cell, files of each, what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import same
from tiny_cells import TINY, assert_refused_in_one_line, bare, end_in_call, run, searched
from tiny_runs import genome_of, rows

from evonas.errors import ConfigurationError
from evonas.gradient import GradientSearch
from evonas.methods.darts import DartsOptions
from evonas.methods.dsrna import DsrnaOptions
from evonas.methods.e2rnas import E2rnasOptions
from evonas.runs.interrupt import Interrupted
from evonas.spaces import DartsSpace

pytestmark = pytest.mark.lengthy

LEVELS = replace(TINY["levels"], search_batch_size=5, search_epochs=3, alpha_lr=0.1)
THREE = E2rnasOptions(version=1, preferences=3, **TINY | {"levels": LEVELS})
SPACE = DartsSpace(4, 3, 2)
TABLES = ("search.csv", "sweep.csv", "population.csv", "front.csv")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("preferences") / "run"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("plot_front", "plot_history"):
            patch.setattr(f"evonas.runs.folder.{name}", lambda *arguments: None)
        return out, run(replace(THREE, out=out))


def test_one_search_fills_the_tables_of_every_run(finished: tuple[Path, str]) -> None:
    folder, screen = finished
    sweep, population = rows(folder / "sweep.csv"), rows(folder / "population.csv")
    assert [row["preference"] for row in sweep] == ["1", "2", "3"]
    assert {row["arch_id"] for row in sweep} == {row["arch_id"] for row in population}
    sizes = [float(row["params"]) for row in sweep]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]
    for row in population:
        assert int(row["params"]) == SPACE.cost(genome_of(row), 10).params
        assert row["method"] == "e2rnas-v1"
    assert "3 preferences take turns, a step each, for networks of" in screen
    assert len(list(folder.glob("search*.pt"))) == 1


def test_preferences_that_all_agree_have_their_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare(monkeypatch)
    run(replace(THREE, levels=replace(TINY["levels"], search_epochs=3, alpha_lr=1e-12), out=tmp_path))
    sweep = rows(tmp_path / "sweep.csv")
    assert [row["preference"] for row in sweep] == ["1", "2", "3"]
    assert len({row["arch_id"] for row in sweep}) == len(rows(tmp_path / "population.csv")) == 1


def test_every_preference_has_its_rows_and_files(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    search = rows(folder / "search.csv")
    assert [(row["epoch"], row["preference"]) for row in search] == [(e, p) for e in "123" for p in "123"]
    sweep = rows(folder / "sweep.csv")
    for row, scored in zip(search[-3:], sweep, strict=True):
        assert float(row["delivered_size"]) * 1e6 == pytest.approx(int(scored["params"]))
        assert row["genotype"] == scored["genotype"]
    for name in ("search.png", "alpha.png", "genotype.json", "genotype.png"):
        stem, ending = name.split(".")
        assert [(folder / f"{stem}-p{number}.{ending}").exists() for number in (1, 2, 3)] == [True] * 3
        assert not (folder / name).exists()


def test_stopped_in_the_search_it_goes_on_bit_for_bit(
    finished: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare(monkeypatch)
    with monkeypatch.context() as patch:
        end_in_call(patch, GradientSearch, "run_epoch", 2)
        with pytest.raises(Interrupted):
            run(replace(THREE, out=tmp_path))
    assert {row["epoch"] for row in rows(tmp_path / "search.csv")} == {"1"}
    torch.manual_seed(1)
    run(replace(THREE, out=tmp_path))
    for name in TABLES:
        assert rows(tmp_path / name) == rows(finished[0] / name)
    assert same(searched(tmp_path), searched(finished[0]))


@pytest.mark.slow
def test_equal_cells_are_kept_once_repeats_and_baselines_stand_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps too short to change the cells: all three architectures are as they began."""
    bare(monkeypatch)
    idle = replace(TINY["levels"], search_epochs=3, alpha_lr=1e-12)
    given: dict[str, Any] = TINY | {"levels": idle}
    options = DsrnaOptions(
        metric="jacobian", metric_images=2, base="darts", preferences=3, repeats=2, baselines=("darts",), **given
    )
    screen = run(replace(options, out=tmp_path))
    assert "dsrna-jacobian-darts r1: preferences 1, 2 and 3 deliver the same cells, which are kept once" in screen
    sweep = rows(tmp_path / "sweep.csv")
    assert [(row["search"], row["preference"]) for row in sweep] == [
        *((f"dsrna-jacobian-darts-r{repeat}", number) for repeat in (1, 2) for number in "123"),
        ("darts-r1", ""),
        ("darts-r2", ""),
    ]
    assert len({row["arch_id"] for row in sweep[:3]}) == 1
    names = {row["search"] for row in rows(tmp_path / "repeats.csv")}
    assert names == {*(f"dsrna-jacobian-darts p{number}" for number in (1, 2, 3)), "darts"}
    assert {row["searches"] for row in rows(tmp_path / "repeats.csv")} == {"2"}


@pytest.mark.parametrize("given", [{"L": 2.0}, {"sweep_L": (1.0, 2.0)}, {"version": 2, "F": 425.0}])
def test_sizes_are_not_asked_twice(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"expected --preferences 3, whose cells are of all sizes, without --"):
        replace(THREE, **given)


@pytest.mark.parametrize("given", [{"count_params": False}, {"validate": False}])
def test_objectives_are_not_left_out(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="without --no-"):
        replace(THREE, **given)


def test_a_supernet_that_drops_operations_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="expected a method of one stage with several preferences"):
        DartsOptions(method="pdarts", preferences=3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["e2rnas", "--preferences", "5", "--no-mgda"], "--mgda changes nothing without --preferences 1"),
        (["e2rnas", "--preferences", "5", "--solver", "exact"], "--solver changes nothing without --preferences 1"),
        (["e2rnas", "--preferences", "5", "--size", "delivered"], "--size changes nothing without --preferences 1"),
        (["dsrna", "--preferences", "5", "--gamma", "1"], "--gamma changes nothing without --preferences 1"),
        (["dsrna", "--preferences", "5", "--combine", "mgda"], "--combine changes nothing without --preferences 1"),
        (["darts", "--preferences", "0"], "preferences"),
        (["darts", "--preferences", "101"], "preferences"),
        (["e2rnas", "--preferences", "5", "--base", "pdarts"], "expected a method of one stage"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_what_changes_nothing_is_refused_in_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused_in_one_line(words, message, capsys)
