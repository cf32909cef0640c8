"""DSRNA as runs: both metrics, killed and continued, beside baselines and over repeats, measured as its tables are."""

import csv
import io
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from evonas.attacks import FGSM
from evonas.cli import main
from evonas.errors import EvonasError, RunMismatchError
from evonas.gradient import BoundLoss, JacobianLoss
from evonas.runs import ExecutionSettings
from evonas.runs.cell_settings import CellRetrainSettings, CellSettings
from evonas.runs.gradient import run_gradient
from evonas.runs.gradient_dsrna import DSRNA_PRESETS, BoundSettings, DsrnaSettings
from evonas.runs.gradient_settings import DARTS_PRESETS, LevelSettings
from evonas.runs.robust_cells import RobustnessSettings
from evonas.training import TrainingConfig

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"

TINY = DsrnaSettings(
    data="digits",
    train_limit=40,
    val_limit=20,
    metric_images=2,
    levels=LevelSettings(
        search_epochs=2,
        search_channels=4,
        search_layers=3,
        search_batch_size=20,
        nodes=2,
        order=1,
        alpha_lr=0.05,
        weights_only=0,
    ),
    cells=CellSettings(eval_channels=4, eval_layers=3),
    training=TrainingConfig(epochs=1, batch_size=20),
    objectives=("clean_error", "params"),
    execution=ExecutionSettings(device="cpu", threads=1),
    after=CellRetrainSettings(retrain_epochs=1, retrain_batch_size=20, cutout=0, test_limit=10),
    robustness=RobustnessSettings(robust_attacks=("fgsm", "pgd10"), radius_images=2),
)


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def run(settings: DsrnaSettings) -> str:
    screen = io.StringIO()
    run_gradient(settings, Console(file=screen, width=300))
    return screen.getvalue()


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return [{k: v for k, v in row.items() if "seconds" not in k} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("dsrna") / "bound"
    return out, run(replace(TINY, out=out))


@pytest.fixture(scope="module")
def repeated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Two searches of DSRNA and of PC-DARTS-ADV each, their cells trained again."""
    out = tmp_path_factory.mktemp("dsrna") / "repeated"
    settings = replace(
        TINY,
        metric="jacobian",
        repeats=2,
        baselines=("pcdarts-adv",),
        ood_data="noise",
        out=out,
        after=replace(TINY.after, retrain=True),
    )
    return out, run(settings)


def test_what_a_run_shows(bounded: tuple[Path, str]) -> None:
    out, text = bounded
    assert "certified bound" in text.splitlines()[3]
    assert "s a step, Jacobian" in text.splitlines()[3]
    assert "of 2 images" in text
    found = rows(out / "search.csv")
    for name in ("upper_loss", "upper_bound", "certified_bound", "certified_difference", "epsilon"):
        assert all(math.isfinite(float(row[name])) for row in found)
    assert float(found[0]["epsilon"]) != 0.03
    (row,) = rows(out / "front.csv")
    assert (row["method"], row["status"]) == ("dsrna-bound", "ok")


def test_a_finished_run_measures_nothing_and_verifies(
    bounded: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = bounded
    before = (out / "search.pt").read_bytes()
    text = run(replace(TINY, out=out))
    assert "dsrna-bound: found at" in text
    assert "s a step" not in text
    assert (out / "search.pt").read_bytes() == before
    assert main(["verify", str(out)]) == 0
    assert "all counts are equal" in capsys.readouterr().out


def test_another_radius_is_another_search(bounded: tuple[Path, str]) -> None:
    other = replace(TINY, bound=BoundSettings(epsilon_start=0.02), out=bounded[0])
    with pytest.raises(RunMismatchError, match=r"upper\.bound\+loss"):
        run(other)


def test_killed_it_goes_on_bit_for_bit(tmp_path: Path) -> None:
    words = [
        "--metric=bound",
        "--data=digits",
        "--train-limit=40",
        "--val-limit=20",
        "--search-epochs=2",
        "--search-channels=4",
        "--search-layers=3",
        "--search-batch-size=20",
        "--nodes=2",
        "--metric-images=2",
        "--eval-channels=4",
        "--eval-layers=3",
        "--epochs=1",
        "--batch-size=20",
        "--objectives=clean_error,params",
        "--device=cpu",
        "--threads=1",
    ]
    command = [sys.executable, str(EXPERIMENTS / "dsrna_cifar10.py"), *words, "--out"]
    out, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen([*command, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while process.poll() is None and not (out / "search.csv").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "front.csv").exists()
    for folder in (out, whole):
        done = subprocess.run([*command, str(folder)], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    for name in ("search.csv", "front.csv"):
        assert rows(out / name) == rows(whole / name)
    states = [torch.load(folder / "search.pt", weights_only=True)["search"] for folder in (out, whole)]
    assert states[0]["epsilon"] == states[1]["epsilon"] != 0.03
    for name, value in states[0]["architecture"].items():
        assert torch.equal(value, states[1]["architecture"][name])


def test_repeats_and_baselines_are_searches_of_one_table(repeated: tuple[Path, str]) -> None:
    out, text = repeated
    labels = ["dsrna-jacobian-r1", "dsrna-jacobian-r2", "pcdarts-adv-r1", "pcdarts-adv-r2"]
    assert {path.name for path in out.glob("search-*.pt")} == {f"search-{label}.pt" for label in labels}
    sweep = rows(out / "sweep.csv")
    assert [row["search"] for row in sweep] == labels
    assert rows(out / "search-dsrna-jacobian-r1.csv") != rows(out / "search-dsrna-jacobian-r2.csv")
    assert "jacobian_norm" not in rows(out / "search-pcdarts-adv-r1.csv")[0]
    means = {(row["search"], row["column"]): row for row in rows(out / "repeats.csv")}
    errors = [float(row["clean_error"]) for row in sweep[:2]]
    found = means["dsrna-jacobian", "clean_error"]
    assert float(found["mean"]) == pytest.approx(sum(errors) / 2)
    assert float(found["deviation"]) == pytest.approx(abs(errors[0] - errors[1]) / 2**0.5)
    assert "pcdarts-adv, 2 searches: clean_error" in text


def test_the_first_repeat_is_the_search_without_repeats(repeated: tuple[Path, str], tmp_path: Path) -> None:
    run(replace(TINY, metric="jacobian", out=tmp_path))
    assert rows(tmp_path / "search.csv") == rows(repeated[0] / "search-dsrna-jacobian-r1.csv")


def test_networks_that_were_trained_again_are_measured(repeated: tuple[Path, str]) -> None:
    out, text = repeated
    found = rows(out / "robust" / "retrained.csv")
    assert [row["configuration"] for row in found] == [
        "dsrna-jacobian r1",
        "dsrna-jacobian r2",
        "pcdarts-adv r1",
        "pcdarts-adv r2",
    ]
    for row in found:
        assert row["status"] == "ok"
        assert 0 <= float(row["fgsm_error"]) <= 1
        assert float(row["pgd10_error"]) >= 0
        assert float(row["certified_radius_linf"]) >= 0
        assert float(row["certified_radius_l2"]) >= float(row["certified_radius_linf"])  # the ball lies within
    means = {(row["search"], row["column"]) for row in rows(out / "robust" / "repeats.csv")}
    assert ("pcdarts-adv", "fgsm_error") in means
    assert ("dsrna-jacobian", "certified_radius_l2") in means
    page = (out / "robust" / "tables.md").read_text()
    assert "| dsrna-jacobian | 2 |" in page
    assert "Robustness of cells trained again, on digits" in text
    assert "As reported" not in page  # the paper has no digits


def test_presets_are_what_the_paper_states() -> None:
    paper = DSRNA_PRESETS["paper"]
    (bound,) = paper.methods(32).values()
    (jacobian,) = replace(paper, metric="jacobian").methods(32).values()
    assert (bound.name, bound.config.search_batch_size, bound.config.search_lr) == ("dsrna-bound", 256, 0.1)
    assert (jacobian.name, jacobian.config.search_batch_size, jacobian.config.search_lr) == (
        "dsrna-jacobian",
        128,
        0.025,
    )
    metric = bound.upper[0].parts[0]  # type: ignore[attr-defined]
    assert isinstance(metric, BoundLoss)
    assert (metric.gamma, metric.images, metric.epsilon.start, bound.nodes) == (0.01, None, 0.03, 4)
    after = paper.after
    assert (after.retrain_epochs, after.retrain_batch_size, after.drop_path) == (600, 128, 0.3)
    assert (paper.cells.eval_channels, paper.cells.eval_layers) == (36, 20)
    assert paper.robustness.scoring(None).columns[0].attack == FGSM(epsilon=2 / 255)
    three = replace(paper, levels=replace(paper.levels, nodes=3)).methods(32)[""]
    assert three.nodes == 3
    (against_l2,) = replace(paper, metric="jacobian", norm="l2").methods(32)[""].upper
    assert against_l2.parts[0] == JacobianLoss(norm="l2")  # type: ignore[attr-defined]


def test_a_baseline_is_the_method_itself() -> None:
    found = replace(TINY, baselines=("darts", "pcdarts-adv")).methods(32)
    assert list(found) == ["dsrna-bound", "darts", "pcdarts-adv"]
    alone = replace(DARTS_PRESETS["paper"], levels=TINY.levels).methods(32)[""]
    assert found["darts"] == alone
    assert found["pcdarts-adv"].perturbation is not None
    assert found["pcdarts-adv"].perturbation.epsilon == 0.3
    adversarial = replace(TINY, levels=replace(TINY.levels, perturb_alpha=0.1), baselines=("pcdarts-adv",)).methods(32)
    assert list(adversarial) == ["dsrna-bound-adv", "pcdarts-adv"]
    assert adversarial["pcdarts-adv"].perturbation == adversarial["dsrna-bound-adv"].perturbation


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"baselines": ("robnet",)}, "unknown baseline 'robnet'"),
        ({"baselines": ("darts", "darts")}, "every one of --baselines once"),
        ({"metric": "jacobian", "bound": BoundSettings(epsilon_step=0.1)}, "of the bound change nothing"),
        ({"repeats": 0}, "expected repeats >= 1, got 0"),
        ({"levels": replace(TINY.levels, order=2, perturb_alpha=0.1)}, "expected order 1 with a perturbed alpha"),
        ({"bound": BoundSettings(epsilon_min=0.2)}, "expected 0 < minimum <= start"),
        ({"metric_images": 0}, "expected images >= 1"),
    ],
)
def test_senseless_settings_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(EvonasError, match=message):
        replace(TINY, **change)  # type: ignore[arg-type]


def test_senseless_measurements_are_refused() -> None:
    with pytest.raises(EvonasError, match="unknown attack on cells 'pgd30'"):
        RobustnessSettings(robust_attacks=("pgd30",))
    with pytest.raises(EvonasError, match="expected certified images >= 0"):
        RobustnessSettings(radius_images=-1)
    with pytest.raises(EvonasError, match="fgsm_epsilon"):
        RobustnessSettings(fgsm_epsilon=0)


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dsrna", "--metric", "jacobian", "--epsilon-start", "0.01"]) == 2
    assert "of the bound change nothing" in capsys.readouterr().err
