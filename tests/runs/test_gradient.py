"""Searches by gradient as runs: what they leave, killed and continued, refused, their rows beside others'."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from evonas.cli import main
from evonas.errors import ConfigurationError, EvonasError, RunMismatchError, StorageError
from evonas.gradient import ExpectedCost
from evonas.networks.darts import Genotype
from evonas.runs import ExecutionSettings
from evonas.runs.cell_settings import CellSettings
from evonas.runs.gradient import prepare_gradient, run_gradient
from evonas.runs.gradient_settings import (
    DARTS_PRESETS,
    E2RNAS_PRESETS,
    DartsSettings,
    E2rnasSettings,
    GradientSettings,
    LevelSettings,
)
from evonas.spaces import DartsSpace
from evonas.training import TrainingConfig

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"

PARTS = {
    "data": "digits",
    "train_limit": 40,
    "val_limit": 20,
    "levels": LevelSettings(
        search_epochs=2, search_channels=4, search_layers=3, search_batch_size=20, nodes=2, order=1, alpha_lr=0.05
    ),
    "cells": CellSettings(eval_channels=4, eval_layers=3),
    "training": TrainingConfig(epochs=1, batch_size=20),
    "objectives": ("clean_error", "params"),
    "execution": ExecutionSettings(device="cpu", threads=1),
}
DARTS = DartsSettings(**PARTS)  # type: ignore[arg-type]
E2RNAS = E2rnasSettings(ood_data="noise", **PARTS)  # type: ignore[arg-type]
FIRST_VERSION = replace(E2RNAS, version=1, ood_data="auto")


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def run(settings: GradientSettings) -> str:
    screen = io.StringIO()
    run_gradient(settings, Console(file=screen, width=300))
    return screen.getvalue()


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return [{k: v for k, v in row.items() if "seconds" not in k} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("gradient") / "darts"
    run(replace(DARTS, out=out))
    return out


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("gradient") / "e2rnas"
    run(replace(FIRST_VERSION, sweep_L=(0.0, 9.0), out=out))
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
    assert [each["epoch"] for each in epochs] == ["1", "2"]
    assert 0 < float(epochs[0]["entropy_normal"]) <= 2.08
    assert 0.1 < float(epochs[0]["expected_params"]) < 7


def test_a_finished_run_trains_nothing_and_verifies(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (finished / "search.pt").read_bytes()
    text = run(replace(DARTS, out=finished))
    assert "darts: found at" in text
    assert "1 from the journal" in text
    assert (finished / "search.pt").read_bytes() == before
    assert main(["verify", str(finished), "--retrain", "best"]) == 0
    assert "all counts are equal" in capsys.readouterr().out


def test_files_that_are_lost_after_the_last_epoch_are_written_again(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    kept = (out / "search.csv").read_bytes()
    for name in ("search.csv", "search.png", "alpha.png", "genotype.json", "genotype.png"):
        (out / name).unlink()
    run(replace(DARTS, out=out))
    assert (out / "search.csv").read_bytes() == kept
    assert (out / "genotype.json").read_bytes() == (finished / "genotype.json").read_bytes()
    assert all((out / name).exists() for name in ("search.png", "alpha.png", "genotype.png"))


@pytest.mark.parametrize("settings", [DARTS, FIRST_VERSION], ids=["darts", "e2rnas"])
def test_a_search_that_diverges_says_so(settings: GradientSettings, tmp_path: Path) -> None:
    with pytest.raises(EvonasError, match=r"^the search diverged: "):
        run(replace(settings, levels=replace(settings.levels, search_lr=1e30), out=tmp_path))


def test_a_sweep_is_one_table(swept: Path) -> None:
    """L = 0 presses on the parameters, L = 9 is never reached, so that the validation loss alone counts."""
    assert {path.name for path in swept.glob("search*.csv")} == {"search-L0.csv", "search-L9.csv"}
    low, high = (rows(swept / f"search-{label}.csv") for label in ("L0", "L9"))
    assert all(float(row["weight_params_loss"]) == 0 and float(row["weight_loss"]) == 1 for row in high)
    assert float(low[-1]["expected_params"]) < float(high[-1]["expected_params"])
    sweep = rows(swept / "sweep.csv")
    assert [row["search"] for row in sweep] == ["L0", "L9"]
    table = rows(swept / "population.csv")
    assert {row["arch_id"] for row in sweep} == {row["arch_id"] for row in table}
    assert 1 <= len(table) <= 2
    assert {row["method"] for row in table} == {"e2rnas-v1"}


def test_parameters_that_are_only_watched_are_counted_as_asked_for(tmp_path: Path) -> None:
    """Of a supernet's scale they are a tenth of those of the network that is evaluated."""
    costs = {"cost_channels": 16, "cost_layers": 8, "cost_affine": False}
    run(replace(FIRST_VERSION, count_params=False, out=tmp_path, **costs))  # type: ignore[arg-type]
    history = torch.load(tmp_path / "search.pt", weights_only=True)["search"]["history"]
    cost = ExpectedCost(channels=16, layers=8, nodes=2, affine=False)
    expected = [float(cost.expected(probabilities.double())) for probabilities in history]
    assert [float(row["expected_params"]) for row in rows(tmp_path / "search.csv")] == pytest.approx(expected)
    assert max(expected) < 0.3


def test_one_front_over_methods(finished: Path, swept: Path, tmp_path: Path) -> None:
    words = ["front", str(finished), str(swept), "--objectives", "clean_error,params", "--out", str(tmp_path / "joint")]
    assert main(words) == 0
    assert {row["method"] for row in rows(tmp_path / "joint" / "population.csv")} == {"darts", "e2rnas-v1"}


COMMAND = [
    "--data=digits",
    "--train-limit=40",
    "--val-limit=20",
    "--search-epochs=3",
    "--search-channels=4",
    "--search-layers=3",
    "--search-batch-size=20",
    "--nodes=2",
    "--eval-channels=4",
    "--eval-layers=3",
    "--epochs=1",
    "--batch-size=20",
    "--objectives=clean_error,params",
    "--device=cpu",
    "--threads=1",
]


def killed(script: str, words: list[str], out: Path, reached: Callable[[], bool]) -> None:
    command = [sys.executable, str(EXPERIMENTS / script), *words, "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while process.poll() is None and not reached():
        assert time.monotonic() < until
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_killed_in_the_search_it_goes_on_bit_for_bit(tmp_path: Path) -> None:
    words = [*COMMAND, "--method=darts", "--order=2"]
    out, whole = tmp_path / "killed", tmp_path / "whole"
    killed("darts_cifar10.py", words, out, lambda: (out / "search.csv").exists())
    assert not (out / "front.csv").exists()
    for folder in (out, whole):
        done = subprocess.run(
            [sys.executable, str(EXPERIMENTS / "darts_cifar10.py"), *words, "--out", str(folder)],
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
    for name in ("search.csv", "front.csv", "population.csv"):
        assert rows(out / name) == rows(whole / name)
    states = [torch.load(folder / "search.pt", weights_only=True)["search"] for folder in (out, whole)]
    for name, value in states[0]["supernet"].items():
        assert torch.equal(value, states[1]["supernet"][name])


def test_what_is_left_on_auto_is_taken_from_a_search_that_was_begun(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "search.pt").write_bytes((finished / "search.pt").read_bytes())
    prepared = prepare_gradient(replace(DARTS, out=tmp_path, execution=ExecutionSettings()))
    assert (prepared.hardware.device, prepared.hardware.threads) == ("cpu", 1)


def test_another_search_in_the_same_folder_is_refused_with_the_difference(finished: Path, tmp_path: Path) -> None:
    other = replace(DARTS, levels=replace(DARTS.levels, alpha_lr=0.01), out=finished)
    with pytest.raises(RunMismatchError, match=r"alpha_lr is 0\.05 there, 0\.01 here"):
        run(other)
    with pytest.raises(RunMismatchError, match="method is darts there, pcdarts here"):
        run(replace(DARTS, method="pcdarts", out=finished))
    (tmp_path / "search.pt").write_bytes(b"nothing")
    with pytest.raises(StorageError, match="expected a search by gradient of evonas"):
        run(replace(DARTS, out=tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objectives": ("clean_error", "adversarial_set_error")}, "expected objectives without a set"),
        ({"L": 1.0, "sweep_L": (1.0, 2.0)}, "expected --L or --sweep-L, got both"),
        ({"sweep_L": (1.0, 1.0000001)}, "expected L in --sweep-L that differ"),
        ({"version": 1, "F": 500.0}, "--F with version 1 changes nothing here"),
        ({"version": 1, "ood_below": False}, "--no-ood-below with version 1 changes nothing"),
        ({"version": 2, "count_params": False}, "--no-count-params with version 2 changes nothing"),
        ({"mgda": False, "solver": "exact"}, "with --no-mgda changes nothing"),
        ({"levels": LevelSettings(hessian="exact", order=1)}, "expected --order 2 with --hessian exact"),
        ({"levels": LevelSettings(nodes=0)}, "nodes"),
        ({"objectives": ("speed",)}, "unknown objective 'speed'"),
    ],
)
def test_senseless_settings_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(EvonasError, match=message):
        replace(E2RNAS, **change)  # type: ignore[arg-type]


def test_second_order_in_bf16_and_images_of_the_same_things_are_refused(tmp_path: Path) -> None:
    bf16 = replace(E2RNAS.levels, order=2, search_precision="bf16")
    with pytest.raises(ConfigurationError, match="expected --search-precision fp32 with second order"):
        run(replace(E2RNAS, levels=bf16, out=tmp_path / "a"))
    with pytest.raises(ConfigurationError, match="expected out-of-distribution images of other classes"):
        run(replace(E2RNAS, ood_data="mnist", out=tmp_path / "b"))
    with pytest.raises(ConfigurationError, match="expected no --ood-data, which nothing here uses, got noise"):
        run(replace(DARTS, ood_data="noise", out=tmp_path / "c"))


def test_presets_are_what_the_papers_state() -> None:
    (darts,), (second,) = (tuple(presets["paper"].methods(32).values()) for presets in (DARTS_PRESETS, E2RNAS_PRESETS))
    assert (darts.epochs, darts.config.order, darts.config.begin_with) == (50, 1, "alpha")
    assert (second.name, second.config.order, second.config.begin_with) == ("e2rnas-v2", 2, "weights")
    first = next(iter(replace(E2RNAS_PRESETS["paper"], version=1).methods(32).values()))
    assert [loss.name for loss in first.upper] == ["loss", "params_loss"]
    quick = replace(DARTS_PRESETS["quick"], method="pdarts").methods(32)[""]
    assert [stage.layers for stage in quick.stages] == [3, 7, 10]
