"""A search of cells as a run: what it leaves, stopped and continued, found again, refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_cells import TINY, bare, end_in_call, kill_and_continue, run, searched
from tiny_runs import contents, rows

from evonas.cli import main
from evonas.errors import ConfigurationError, EvonasError, RunMismatchError, SearchFailedError, StorageError
from evonas.gradient import GradientSearch
from evonas.methods import darts
from evonas.methods.cells import compose, plan_searches
from evonas.methods.darts import DartsOptions
from evonas.networks.darts import Genotype
from evonas.runs import ExecutionOptions, Run
from evonas.runs.interrupt import Interrupted
from evonas.seeding import derive_seed
from evonas.spaces import DartsSpace

pytestmark = pytest.mark.lengthy

DARTS = DartsOptions(**TINY)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("darts") / "whole"
    darts.run(replace(DARTS, out=out))
    return out


def test_what_a_run_leaves(finished: Path) -> None:
    for name in ("search.pt", "search.csv", "search.png", "alpha.png", "genotype.json", "genotype.png", "front.png"):
        assert (finished / name).stat().st_size > 0
    (row,) = rows(finished / "front.csv")
    assert (row["method"], row["status"], row["rank"], row["data"]) == ("darts", "ok", "0", "digits")
    space = DartsSpace(4, 3, 2)
    stored = json.loads((finished / "genotype.json").read_text())
    genotype = Genotype(stored["normal"], stored["normal_concat"], stored["reduce"], stored["reduce_concat"])
    assert [int(gene) for gene in row["genome"].split()] == space.canonical(space.from_genotype(genotype)).tolist()
    assert int(row["params"]) == space.cost(space.from_genotype(genotype)).params
    epochs = rows(finished / "search.csv")
    assert [(each["epoch"], each["stage"]) for each in epochs] == [("1", "1"), ("2", "1")]
    assert 0 < float(epochs[0]["entropy_normal"]) <= 2.08
    assert 0.1 < float(epochs[0]["expected_params"]) < 7


def test_a_finished_run_trains_nothing_and_verifies(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(finished)
    monkeypatch.setattr(GradientSearch, "run_epoch", lambda *arguments: pytest.fail("searched again"))
    run(replace(DARTS, out=finished))
    assert contents(finished) == before
    assert main(["verify", str(finished), "--retrain", "best"]) == 0
    assert "all counts are equal" in capsys.readouterr().out


def test_files_that_are_lost_after_the_last_epoch_are_written_again(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    lost = ("search.csv", "search.png", "alpha.png", "genotype.json", "genotype.png")
    for name in lost:
        (out / name).unlink()
    run(replace(DARTS, out=out))
    assert {name: (out / name).read_bytes() for name in lost} == {name: (finished / name).read_bytes() for name in lost}


def test_stopped_in_the_search_it_goes_on_bit_for_bit(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare(monkeypatch)
    with monkeypatch.context() as patch:
        end_in_call(patch, GradientSearch, "run_epoch", 2)
        with pytest.raises(Interrupted):
            run(replace(DARTS, out=tmp_path))
    assert [row["epoch"] for row in rows(tmp_path / "search.csv")] == ["1"]
    assert not (tmp_path / "journal.jsonl").exists()
    torch.manual_seed(1)
    run(replace(DARTS, out=tmp_path))
    for name in ("search.csv", "front.csv", "population.csv"):
        assert rows(tmp_path / name) == rows(finished / name)
    assert_equal_supernets(tmp_path, finished)


@pytest.mark.slow
def test_killed_in_a_search_of_second_order_it_goes_on_bit_for_bit(tmp_path: Path) -> None:
    out, whole = tmp_path / "killed", tmp_path / "whole"
    kill_and_continue("darts_cifar10.py", ("--method=darts", "--order=2", "--search-epochs=3"), out, whole)
    for name in ("search.csv", "front.csv", "population.csv"):
        assert rows(out / name) == rows(whole / name)
    assert_equal_supernets(out, whole)


def assert_equal_supernets(one: Path, other: Path) -> None:
    first, second = searched(one)["supernet"], searched(other)["supernet"]
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_search_that_diverges_says_so(tmp_path: Path) -> None:
    with pytest.raises(EvonasError, match=r"^the search diverged: "):
        run(replace(DARTS, levels=replace(DARTS.levels, search_lr=1e30), out=tmp_path))


def test_where_a_search_fails_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of two in its second epoch; the same command does the rest of it alone."""
    bare(monkeypatch)
    options = replace(DARTS, repeats=2, out=tmp_path)
    epochs: list[tuple[int, int]] = []
    run_epoch = GradientSearch.run_epoch

    def fails(self: GradientSearch, *arguments: Any) -> Any:
        if self.seed == options.seed and self.epoch == 1:
            raise RuntimeError("no room")
        epochs.append((self.seed, self.epoch))
        return run_epoch(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(GradientSearch, "run_epoch", fails)
        with pytest.raises(SearchFailedError) as caught:
            run(options)
    other = derive_seed(options.seed, "repeat", 2)
    assert epochs == [(options.seed, 0), (other, 0), (other, 1)]
    log = tmp_path / "failures.log"
    assert str(caught.value) == (
        f"RuntimeError: no room; 1 of 2 searches failed, this one is darts r1; its traceback is in {log}"
    )
    assert log.read_text().startswith("darts r1: RuntimeError: no room\n\nTraceback")
    assert [len(rows(tmp_path / f"search-r{number}.csv")) for number in (1, 2)] == [1, 2]
    said = run(options)
    assert "darts r1: supernet of" in said
    assert "continued after epoch 1\n  darts r1, epoch 2/2: loss" in said.replace(tail_of("darts r2", said), "")
    assert [len(rows(tmp_path / f"search-r{number}.csv")) for number in (1, 2)] == [2, 2]


def tail_of(name: str, said: str) -> str:
    """The line that says where a search was found."""
    (line,) = (line for line in said.splitlines() if line.startswith(f"{name}: found at"))
    return f"{line}\n"


def test_what_is_left_on_auto_is_taken_from_a_search_that_was_begun(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "search.pt").write_bytes((finished / "search.pt").read_bytes())
    levels = replace(DARTS.levels, search_precision="auto")
    options = replace(DARTS, levels=levels, execution=ExecutionOptions(), out=tmp_path)
    with Run.open("darts", options) as begun:
        assert (begun.device, begun.threads) == ("cpu", 1)
        _, candidates, _ = compose(begun, options)
        (search,) = plan_searches(begun, options, candidates.data)
        assert search.precision == "fp32"
        assert "precision of the search: fp32, as this run was started with" in begun.notes


def test_another_search_in_the_same_folder_is_refused_with_the_difference(finished: Path, tmp_path: Path) -> None:
    before = contents(finished)
    other = replace(DARTS, levels=replace(DARTS.levels, alpha_lr=0.01), out=finished)
    with pytest.raises(RunMismatchError, match=r"alpha_lr is 0\.05 there, 0\.01 here"):
        run(other)
    with pytest.raises(RunMismatchError, match="method is darts there, pcdarts here"):
        run(replace(DARTS, method="pcdarts", out=finished))
    assert contents(finished) == before
    (tmp_path / "search.pt").write_bytes((finished / "search.pt").read_bytes())  # there is no journal yet
    with pytest.raises(RunMismatchError, match=r"alpha_lr is 0\.05 there, 0\.01 here"):
        run(replace(other, out=tmp_path))


def test_a_checkpoint_that_is_damaged_is_refused(tmp_path: Path) -> None:
    (tmp_path / "search.pt").write_bytes(b"nothing")
    with pytest.raises(StorageError, match=r"of evonas in .*search\.pt: .*; copy it there again, or move"):
        run(replace(DARTS, out=tmp_path))


def test_second_order_in_bf16_is_refused(tmp_path: Path) -> None:
    bf16 = replace(DARTS.levels, order=2, search_precision="bf16")
    with pytest.raises(ConfigurationError, match="expected --search-precision fp32 with second order"):
        run(replace(DARTS, levels=bf16, out=tmp_path / "new"))
    assert not (tmp_path / "new").exists()
