"""Settings of Jacobian norms and certificates: their objectives, what changes nothing, and a run of them."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from evonas.errors import ConfigurationError, EvonasError, RunMismatchError
from evonas.objectives import CertifiedAccuracy, CertifiedRadius, CleanError, JacobianNorm
from evonas.runs import ROCO_PRESETS, RocoSettings, run_roco
from evonas.runs.command_line import parse
from evonas.runs.execution import ExecutionSettings
from evonas.runs.gradient_settings import DARTS_PRESETS
from evonas.runs.objectives import AttackSettings, CertifySettings, identity_of, make_objectives
from evonas.runs.roco_settings import roco_from_config
from evonas.runs.tam_settings import TAM_PRESETS
from evonas.search import EvolutionConfig
from evonas.training import TrainingConfig

NAMES = ("jacobian_norm", "clean_error", "certified_radius", "certified_accuracy")
TINY = RocoSettings(
    data="digits",
    train_limit=40,
    val_limit=20,
    phases=1,
    nodes=2,
    channels=2,
    training=TrainingConfig(epochs=1, batch_size=20, precision="fp32"),
    search=EvolutionConfig(
        population=3, generations=1, objectives=("clean_error", "jacobian_norm", "certified_radius")
    ),
    certify=CertifySettings(jacobian_images=8, certified_images=4),
    execution=ExecutionSettings(executor="local", device="cpu", threads=1),
)


def made(certify: CertifySettings | None) -> Any:
    return make_objectives(NAMES, AttackSettings(), "fp32", None, certify=certify)


def test_objectives_take_the_settings() -> None:
    assert (
        made(None) == made(CertifySettings()) == (JacobianNorm(), CleanError(), CertifiedRadius(), CertifiedAccuracy())
    )
    settings = CertifySettings(
        jacobian_q=2,
        jacobian_images=5,
        certified_norm="l2",
        certified_epsilon=0.1,
        certified_images=7,
        certified_intermediate="linear",
        certified_relaxation="same_slope",
    )
    bounds: dict[str, Any] = {"norm": "l2", "images": 7, "intermediate": "linear", "relaxation": "same_slope"}
    assert made(settings) == (
        JacobianNorm(q=2, images=5),
        CleanError(),
        CertifiedRadius(**bounds),
        CertifiedAccuracy(epsilon=0.1, **bounds),
    )
    identities = [json.dumps(identity_of(part), allow_nan=False) for part in (*made(None), *made(settings))]
    assert len(set(identities)) == 7  # all differ but the two clean errors


@pytest.mark.parametrize(
    "settings",
    [
        {"jacobian_q": 0.9},
        {"jacobian_images": 0},
        {"certified_norm": "l1"},
        {"certified_epsilon": -0.1},
        {"certified_images": 0},
        {"certified_intermediate": "ibp"},
        {"certified_relaxation": "best"},
    ],
)
def test_settings_that_make_no_sense_are_refused_at_once(settings: dict[str, Any]) -> None:
    with pytest.raises(EvonasError, match=r"expected|unknown"):
        CertifySettings(**settings)


@pytest.mark.parametrize(
    ("settings", "names", "said"),
    [
        ({"jacobian_q": 2.0}, ("certified_radius",), "--jacobian-q changes nothing without jacobian_norm"),
        ({"certified_images": 3}, ("jacobian_norm",), "without certified_radius or certified_accuracy"),
        ({"certified_epsilon": 0.1}, ("certified_radius",), "--certified-epsilon changes nothing without certified_a"),
    ],
)
def test_a_setting_of_no_objective_is_refused(settings: dict[str, Any], names: tuple[str, ...], said: str) -> None:
    certify = CertifySettings(**settings)
    with pytest.raises(ConfigurationError, match=said):
        certify.check_used(names)
    with pytest.raises(ConfigurationError, match=said):
        RocoSettings(search=EvolutionConfig(objectives=names), certify=certify)
    certify.check_used(NAMES)
    CertifySettings().check_used(())


@pytest.mark.parametrize("presets", [ROCO_PRESETS, TAM_PRESETS, DARTS_PRESETS], ids=["roco", "tam", "darts"])
def test_the_command_lines_have_them(presets: Any) -> None:
    words = "--objectives clean_error,macs,certified_radius,jacobian_norm --certified-norm l2 --jacobian-q 2"
    settings = parse(presets, words.split())
    assert settings.certify == CertifySettings(certified_norm="l2", jacobian_q=2.0)


def table(folder: Path) -> list[dict[str, str]]:
    """population.csv without its timings."""
    with (folder / "population.csv").open() as file:
        return [{name: value for name, value in row.items() if name != "train_seconds"} for row in csv.DictReader(file)]


def test_a_run_maximises_the_radius_and_keeps_its_settings(tmp_path: Path) -> None:
    settings = replace(TINY, out=tmp_path / "run")
    run_roco(settings, Console(quiet=True))
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["identity"]["search"]["maximize"] == ["certified_radius"]
    assert config["reference_point"]["certified_radius"] == 0.0
    measured = config["measured"]["certified_radius"]
    assert (measured["images"], measured["norm"], measured["maximize"]) == (4, "linf", True)
    assert roco_from_config(config) == settings
    rows = table(tmp_path / "run")
    assert {row["status"] for row in rows} == {"ok"}
    best = max(rows, key=lambda row: float(row["certified_radius"]))
    assert best["rank"] == "0"  # nothing dominates the largest radius, unless another has the same
    assert all(float(row["certified_radius"]) >= 0 < float(row["jacobian_norm"]) for row in rows)
    with pytest.raises(RunMismatchError, match=r"objectives\.certified_radius\.images is 4 there, 3 here"):
        run_roco(replace(settings, certify=replace(settings.certify, certified_images=3)), Console(quiet=True))
    journal = (tmp_path / "run" / "journal.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / "config.json").write_text((tmp_path / "run" / "config.json").read_text())
    (tmp_path / "killed" / "journal.jsonl").write_text("".join(journal[:3]))  # two evaluations were finished
    run_roco(replace(settings, out=tmp_path / "killed"), Console(quiet=True))
    assert table(tmp_path / "killed") == rows
