"""Weights of a search's networks: those of the front lie in its folder, whatever happens; the journal is the same."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import ROCO, contents, journal, rows, run

import evonas
from evonas.errors import ConfigurationError, DataError, StorageError, UnknownNameError
from evonas.evaluation.keeping import Leaders
from evonas.files import replace_file
from evonas.methods.roco_retraining import RetrainOptions
from evonas.runs import ExecutionOptions, keeping
from evonas.ship import read_weights

pytestmark = [pytest.mark.lengthy, pytest.mark.usefixtures("no_pictures")]


def files(folder: Path) -> dict[str, bytes]:
    """arch_id -> file of weights."""
    return {path.stem: path.read_bytes() for path in (folder / "weights").glob("*")}


def on_the_front(folder: Path) -> set[str]:
    return {row["arch_id"] for row in rows(folder / "front.csv")}


def logits(network: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return network(torch.linspace(0, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32))  # type: ignore[no-any-return]


def test_leaders_are_what_no_other_one_dominates() -> None:
    leaders = Leaders(("error", "radius"), ("radius",))
    values = [(0.5, 1.0), (0.5, 2.0), (0.4, 1.0), (0.6, 1.5), (0.5, 2.0), (0.3, 2.0), (0.4, 2.0)]
    assert [leaders.add({"error": e, "radius": r}) for e, r in values] == [1, 1, 1, 0, 1, 1, 0]


def test_the_front_is_kept_and_nothing_else(roco_run: Path) -> None:
    assert files(roco_run).keys() == on_the_front(roco_run)
    assert len(rows(roco_run / "population.csv")) > len(on_the_front(roco_run))
    for name, row in ((row["arch_id"], row) for row in rows(roco_run / "front.csv")):
        card = read_weights(roco_run / "weights" / f"{name}.safetensors").card
        assert " ".join(map(str, card.genome)) == row["genome"]
        assert (card.provenance.weights, card.provenance.data, card.provenance.seed) == ("search", "digits", 0)


def test_none_or_all_and_the_same_journal(roco_run: Path, tmp_path: Path) -> None:
    run(replace(ROCO, out=tmp_path / "none", keep_weights="none"))
    run(replace(ROCO, out=tmp_path / "all", keep_weights="all"))
    assert journal(tmp_path / "none") == journal(tmp_path / "all") == journal(roco_run)
    assert not (tmp_path / "none" / "weights").exists()
    kept = files(tmp_path / "all")
    assert kept.keys() == {row["arch_id"] for row in rows(roco_run / "population.csv")}
    assert {name: kept[name] for name in files(roco_run)} == files(roco_run)
    run(replace(ROCO, out=tmp_path / "all"))  # the choice is no part of the identity
    assert files(tmp_path / "all") == files(roco_run)


@pytest.mark.slow
def test_they_come_from_other_processes_alike(roco_run: Path, tmp_path: Path) -> None:
    run(replace(ROCO, out=tmp_path, execution=ExecutionOptions(threads=1, device="cpu", executor="process", workers=2)))
    assert files(tmp_path) == files(roco_run)


@pytest.mark.slow
def test_they_come_from_workers_that_do_not_see_the_folder(roco_run: Path, tmp_path: Path, ray_here: Any) -> None:
    opened = os.open(tmp_path, os.O_RDONLY)
    try:
        out = Path(f"/proc/self/fd/{opened}/run")  # only this process has it open under that number
        run(replace(ROCO, out=out, execution=ExecutionOptions(threads=1, device="cpu", executor="ray")))
        assert out.is_dir()
        assert not ray_here.get(ray_here.remote(os.path.isdir).remote(str(out)))
        assert not ray_here.get(ray_here.remote(os.path.exists).remote(str(out.parent)))
    finally:
        os.close(opened)
    assert files(tmp_path / "run") == files(roco_run)
    assert [line["key"] for line in journal(tmp_path / "run")[1:]] == [line["key"] for line in journal(roco_run)[1:]]


def test_a_kill_between_file_and_line_leaves_no_row_without(
    roco_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []

    def dying(path: Path, write: Callable[[Any], object]) -> None:
        replace_file(path, write)
        written.append(path)
        if len(written) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(keeping, "replace_file", dying)
    with pytest.raises(KeyboardInterrupt):
        run(replace(ROCO, out=tmp_path / "run"))
    assert len(journal(tmp_path / "run")) - 1 < len(journal(roco_run)) - 1
    assert written[-1].stem not in {line.get("key") for line in journal(tmp_path / "run")}
    monkeypatch.undo()
    run(replace(ROCO, out=tmp_path / "run"))
    assert files(tmp_path / "run") == files(roco_run)
    assert journal(tmp_path / "run") == journal(roco_run)


def test_a_disk_that_is_full_is_one_line_and_the_run_goes_on_later(
    roco_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, write: Callable[[Any], object]) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(keeping, "replace_file", full)
    with pytest.raises(StorageError, match="the disk is full"):
        run(replace(ROCO, out=tmp_path / "run"))
    monkeypatch.undo()
    run(replace(ROCO, out=tmp_path / "run"))
    assert files(tmp_path / "run") == files(roco_run)


def test_a_replay_needs_and_loses_none(copied_run: Path) -> None:
    before = files(copied_run), journal(copied_run)
    run(replace(ROCO, out=copied_run))
    assert (files(copied_run), journal(copied_run)) == before
    shutil.rmtree(copied_run / "weights")
    said = run(replace(ROCO, out=copied_run))
    front = on_the_front(copied_run)
    assert f"no weights were kept of {len(front)} of {len(front)} networks on the front, " in said
    assert all(name in said for name in sorted(front)[:1])
    assert journal(copied_run) == before[1]
    assert files(copied_run) == {}


def test_a_longer_search_keeps_what_it_newly_evaluates(copied_run: Path) -> None:
    shutil.rmtree(copied_run / "weights")
    before = {line.get("key") for line in journal(copied_run)}
    run(replace(ROCO, out=copied_run, search=replace(ROCO.search, generations=4)))
    assert files(copied_run).keys() == on_the_front(copied_run) - before


class TestLoad:
    def test_without_a_file_it_says_what_training_again_takes(self, copied_run: Path) -> None:
        expected = logits(evonas.load_network(copied_run))
        best = rows(copied_run / "front.csv")[0]
        (copied_run / "weights" / f"{best['arch_id']}.safetensors").unlink()
        with pytest.raises(ConfigurationError) as refused:
            evonas.load_network(copied_run)
        seconds = evonas.open_run(copied_run).entry("best").result.seconds
        assert f"took {seconds:.3g} s then" in str(refused.value)
        assert "train_again=True" in str(refused.value)
        before = contents(copied_run)
        assert torch.equal(logits(evonas.load_network(copied_run, train_again=True)), expected)
        assert contents(copied_run) == before

    def test_a_file_of_another_row_or_run(self, copied_run: Path) -> None:
        found = evonas.open_run(copied_run)
        first, *others = files(copied_run)
        path = copied_run / "weights" / f"{first}.safetensors"
        shutil.copy(copied_run / "weights" / f"{others[0]}.safetensors", path)
        with pytest.raises(DataError, match="they are of another network or run; remove it, and load again"):
            found.load(first)

    def test_trained_to_the_end(self, copied_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(ConfigurationError, match="trained to the end"):
            evonas.load_network(copied_run, weights="audit")
        best = rows(copied_run / "front.csv")[0]["arch_id"]
        for epochs in (1, 2):
            after = RetrainOptions(
                retrain=True, retrain_epochs=epochs, retrain_channels=2, suite=("fgsm",), retrain_networks=(best,)
            )
            run(replace(ROCO, out=copied_run, after=replace(after, test_limit=20)))
        found = evonas.open_run(copied_run)
        longest, other = found.trainings(best)
        assert longest.startswith("retrained/")
        capsys.readouterr()
        network = evonas.load_network(copied_run, weights="audit")
        assert f"{best}: weights {longest}, the longest of its trainings {longest}, {other}" in capsys.readouterr().err
        assert not network.training
        assert torch.equal(logits(found.load(weights=longest)), logits(network))
        assert not torch.equal(logits(found.load(weights=other)), logits(network))
        with pytest.raises(UnknownNameError, match="unknown weights 'retrained/x'"):
            found.load(weights="retrained/x")
