"""TAM-NAS runs: the supernet, the search over it, what comes after; stopped in each and continued; refused."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Trap
from rich.console import Console
from tiny_cells import EXPERIMENTS, end_in_call
from tiny_runs import HERE, ROCO, config, contents, rows
from tiny_runs import run as run_roco

from evonas.audit import FinalTraining
from evonas.cli import main
from evonas.errors import ConfigurationError, DataError, RunMismatchError, StorageError
from evonas.evaluation import Evaluator
from evonas.methods import tam
from evonas.methods.tam import PRESETS, YOPO_LOOPS, TamOptions, compose
from evonas.methods.tam_finalise import FinaliseOptions
from evonas.runs import DataOptions, ExecutionOptions, Run
from evonas.runs.interrupt import Interrupted
from evonas.runs.options import as_json, from_json
from evonas.search import EvolutionConfig
from evonas.training import (
    OneShotConfig,
    OneShotTraining,
    Trades,
    TradesYopo,
    load_checkpoint,
    standard,
    stored_identity,
)

pytestmark = pytest.mark.lengthy

TINY = TamOptions(
    data=DataOptions(data="digits", train_limit=60, val_limit=30),
    width=1 / 6,
    depth=0.1,
    supernet_steps=1,
    supernet=OneShotConfig(
        block_epochs=1,
        joint_epochs=1,
        resample_epochs=1,
        first_ratio_epochs=1,
        supernet_batch_size=30,
        block_milestones=(),
        joint_milestones=(),
    ),
    recalibration_batches=1,
    recalibration_batch_size=30,
    search=EvolutionConfig(
        population=4, generations=1, objectives=("clean_error", "pgd_error", "params"), tournament=3
    ),
    execution=HERE,
)
AFTER = FinaliseOptions(
    finalise="both",
    finalise_top=1,
    finalise_epochs=1,
    finalise_batch_size=30,
    finalise_milestones=(),
    finalise_m=1,
    finalise_n=1,
    test_epsilons=(8,),
    test_steps=(2,),
    test_limit=20,
)
WHOLE = replace(TINY, after=AFTER)
TABLES = ("supernet.csv", "front.csv", "population.csv", "finalised/finalised.csv")


def run(options: TamOptions) -> str:
    """The text on the screen."""
    screen = io.StringIO()
    tam.run(options, Console(file=screen, width=200))
    return screen.getvalue()


def weights(out: Path) -> dict[str, torch.Tensor]:
    """Those of the supernet, after its last epoch."""
    path = out / "supernet.pt"
    content = load_checkpoint(path, stored_identity(path, "a supernet"), "a supernet")
    assert content is not None
    assert "momentum" not in content["state"]
    found: dict[str, torch.Tensor] = content["state"]["weights"]
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With its pictures. Tests copy it before they change it."""
    out = tmp_path_factory.mktemp("tam") / "finished"
    run(replace(WHOLE, out=out))
    return out


@pytest.fixture
def nothing_is_drawn(no_pictures: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than the rest of a tiny run."""
    monkeypatch.setattr("evonas.report.plot_layers", lambda *arguments: None)


def only_supernet(finished: Path, out: Path) -> None:
    """A run that was ended right after the supernet's training."""
    out.mkdir(exist_ok=True)
    (out / "supernet.pt").write_bytes((finished / "supernet.pt").read_bytes())


def test_what_a_run_leaves(finished: Path) -> None:
    front, population = rows(finished / "front.csv"), rows(finished / "population.csv")
    assert len(population) == 8
    assert 1 <= len(front) <= 8
    for row in population:
        assert row["status"] == "ok"
        assert 0 <= float(row["clean_error"]) <= float(row["pgd_error"]) <= 1  # any iterate counts, the clean one too
        assert row["method"] == "tam-nas"
    epochs = rows(finished / "supernet.csv")
    assert [(row["epoch"], row["phase"]) for row in epochs] == [("1", "blocks"), ("2", "joint")]
    untrained = {
        (int(row["layer"]), int(row["block"])): row["ratios"].split() for row in rows(finished / "untrained.csv")
    }
    assert sum(map(len, untrained.values())) == int(epochs[-1]["untrained"])
    choices = {
        (layer, block) for layer in range(6) for block in range(6 if layer % 2 == 0 else 22)
    }  # three stages of a layer of stride 2 and one of stride 1
    assert untrained.keys() <= choices
    genes = [list(map(int, row["genome"].split())) for row in epochs]
    for layer in range(6):
        for each in genes:  # what an epoch has trained is not among them
            assert f"{(each[6 + layer] + 1) / 5:g}" not in untrained.get((layer, each[layer]), [])
    assert int(epochs[0]["untrained"]) - int(epochs[1]["untrained"]) <= 6
    assert any("were never trained in the supernet" in note for note in config(finished)["notes"])
    assert any("--joint-window accepts all of 1,000 random networks" in note for note in config(finished)["notes"])
    assert len(config(finished)["identity"]["supernet"]["fingerprint"]) == 32
    assert [row["mode"] for row in rows(finished / "finalised" / "finalised.csv")] == ["scratch", "finetune"]
    assert (finished / "finalised" / "layer_statistics.png").stat().st_size > 5000
    assert sorted(path.name for path in finished.glob("*.pt")) == ["supernet.pt"]


def test_the_same_command_again_does_nothing(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, name in ((OneShotTraining, "run_epoch"), (FinalTraining, "train"), (Evaluator, "make_evaluate")):
        monkeypatch.setattr(owner, name, lambda *arguments: pytest.fail("done again"))
    before = contents(finished)
    said = run(replace(WHOLE, out=finished))
    assert "supernet: found at" in said
    assert "8 evaluations (8 from the journal, 0 failed)" in said
    assert "; 0 pending" in said
    assert contents(finished) == before


@pytest.mark.slow
def test_what_is_left_on_auto_is_taken_from_a_supernet_in_training(finished: Path, tmp_path: Path) -> None:
    only_supernet(finished, tmp_path)
    auto = replace(TINY, out=tmp_path, execution=ExecutionOptions())
    with Run.open("tam-nas", auto, console=Console(file=io.StringIO())) as begun:
        compose(begun, auto)
        assert (begun.hardware.device, begun.hardware.threads) == ("cpu", 1)
        assert begun.identity["supernet"]["training"]["supernet_precision"] == "fp32"
    with pytest.raises(RunMismatchError, match="threads is 1 there, 3 here"):
        run(replace(TINY, out=tmp_path, execution=ExecutionOptions(threads=3)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": (1e5, 1.1e5)}, r"^expected networks within --window 100000 110000, which is .* got none"),
        ({"supernet": replace(TINY.supernet, joint_window=(1e6, 1.1e6))}, "widen --joint-window"),
        ({"supernet": replace(TINY.supernet, block_window=(1e6, 1.1e6))}, "widen --block-window"),
    ],
)
def test_windows_without_networks_are_refused_before_anything_is_trained(
    tmp_path: Path, change: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evonas.training.one_shot.TRIES", 2000)
    with pytest.raises(ConfigurationError, match=message):
        run(replace(TINY, out=tmp_path / "run", **change))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"supernet_momentum": 1.5},
        {"supernet_momentum": -1.0},
        {"supernet_weight_decay": -1.0},
        {"supernet_batch_size": 1},
        {"joint_window": (0, float("inf"))},
    ],
    ids=str,
)
def test_senseless_training_of_a_supernet_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"^expected .*{next(iter(change))}"):
        replace(TINY.supernet, **change)


def test_a_table_of_the_supernet_that_is_lost_is_written_again(
    finished: Path, tmp_path: Path, nothing_is_drawn: None
) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "copy"))
    (out / "supernet.csv").unlink()
    run(replace(WHOLE, out=out))
    assert (out / "supernet.csv").read_bytes() == (finished / "supernet.csv").read_bytes()


@pytest.mark.parametrize(
    "other",
    [
        {"supernet_epsilon": 4 / 255},
        {"supernet_recipe": "trades"},
        {"supernet": replace(TINY.supernet, supernet_lr=0.05)},
        {"width": 0.5},
        {"window": (1.7e6, 2.37e6)},
        {"search": replace(TINY.search, tournament=4)},
        {"recalibration_batches": 2},
    ],
)
def test_another_run_in_the_same_folder_is_refused(finished: Path, other: dict[str, Any]) -> None:
    before = contents(finished)
    with pytest.raises(RunMismatchError, match=r"belongs to another run: .* is .* there, .* here"):
        run(replace(TINY, out=finished, **other))
    assert contents(finished) == before


@pytest.mark.parametrize("name", ["trades", "pgd_at"])
def test_a_supernet_begun_with_tam_nas_s_attack_goes_on_with_it(
    name: str, tmp_path: Path, no_pictures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As versions began it that took its steps and lambda for every recipe; a new one takes the recipe's own."""
    search = replace(TINY.search, objectives=("clean_error", "params"))
    options = replace(TINY, supernet_recipe=name, search=search)
    with monkeypatch.context() as former:
        former.setattr(TamOptions, "recipe", TamOptions.former_recipe)
        run(replace(options, out=tmp_path / "old"))
    begun = (tmp_path / "old" / "supernet.pt").read_bytes()
    assert "TAM-NAS's, as this run was started with" in run(replace(options, out=tmp_path / "old"))
    assert (tmp_path / "old" / "supernet.pt").read_bytes() == begun
    assert "as this run was started with" not in run(replace(options, out=tmp_path / "new"))
    ours, theirs = weights(tmp_path / "new"), weights(tmp_path / "old")
    assert any(not torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_supernet_of_another_training_is_refused(finished: Path, tmp_path: Path) -> None:
    """Where the search has not begun, the checkpoint says whose it is."""
    only_supernet(finished, tmp_path)
    before = (tmp_path / "supernet.pt").read_bytes()
    with pytest.raises(RunMismatchError, match=r"supernet.pt belongs to another run: recipe.epsilon is .* there"):
        run(replace(TINY, out=tmp_path, supernet_epsilon=4 / 255))
    assert (tmp_path / "supernet.pt").read_bytes() == before


@pytest.mark.slow
def test_verify_counts_and_scores_again(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(finished), "--retrain", "best"]) == 0
    said = capsys.readouterr().out
    assert "8 networks counted anew, 0 failed ones left out: all counts are equal" in said
    columns = ("clean_error", "pgd_error", "params", "macs")
    assert [line.split()[1] for line in said.splitlines()[1:]] == [f"{name}:" for name in columns]
    assert all(line.endswith(", equal") for line in said.splitlines()[1:])


def test_show_and_export_know_the_space(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = rows(finished / "front.csv")
    assert main(["show", str(finished)]) == 0
    assert main(["export", str(finished)]) == 0
    assert rows(finished / "front.csv") == before


STOPS: dict[str, tuple[type, str, int]] = {
    "supernet": (OneShotTraining, "run_epoch", 2),
    "search": (Evaluator, "make_evaluate", 1),
    "finalising": (FinalTraining, "train", 2),
}
"""Stage -> the call in which SIGTERM comes."""


@pytest.mark.slow
def test_stopped_in_every_stage_it_continues_bit_for_bit(
    finished: Path, tmp_path: Path, nothing_is_drawn: None
) -> None:
    for stage, (owner, name, number) in STOPS.items():
        with pytest.MonkeyPatch.context() as patch:
            end_in_call(patch, owner, name, number)
            with pytest.raises(Interrupted):
                run(replace(WHOLE, out=tmp_path))
        torch.manual_seed(len(stage))
    assert (tmp_path / "journal.jsonl").exists()
    run(replace(WHOLE, out=tmp_path))
    found = weights(tmp_path)
    assert all(torch.equal(found[name], value) for name, value in weights(finished).items())
    for name in TABLES:
        assert rows(tmp_path / name) == rows(finished / name), name


@pytest.mark.slow
def test_processes_find_the_same(finished: Path, tmp_path: Path, nothing_is_drawn: None) -> None:
    only_supernet(finished, tmp_path)
    run(replace(WHOLE, out=tmp_path, execution=ExecutionOptions(device="cpu", threads=1, workers=2)))
    for name in ("front.csv", "finalised/finalised.csv"):
        assert rows(tmp_path / name) == rows(finished / name), name


def test_a_damaged_supernet_is_not_trained_over(tmp_path: Path) -> None:
    for content in (b"", b"not a supernet", b"PK\x03\x04 nor this one"):
        (tmp_path / "supernet.pt").write_bytes(content)
        with pytest.raises(
            StorageError, match=r"expected a checkpoint of evonas in .*supernet.pt: .*; copy it there again, or move"
        ):
            run(replace(TINY, out=tmp_path))
        assert (tmp_path / "supernet.pt").read_bytes() == content


def test_no_pickle_is_loaded(tmp_path: Path) -> None:
    torch.save({"identity": Trap()}, tmp_path / "supernet.pt")
    with pytest.raises(StorageError, match="expected a checkpoint of evonas"):
        run(replace(TINY, out=tmp_path))
    assert not Trap.sprung


FLAGS = [
    "--data=digits",
    "--train-limit=60",
    "--val-limit=30",
    "--supernet-steps=1",
    "--block-epochs=2",
    "--joint-epochs=2",
    "--resample-epochs=1",
    "--supernet-batch-size=30",
    "--recalibration-batches=1",
    "--population=4",
    "--generations=2",
    "--threads=1",
    "--device=cpu",
    "--finalise-top=1",
    "--finalise-epochs=1",
    "--finalise-batch-size=30",
    "--test-limit=20",
    "--finalise-m=1",
    "--test-epsilons=8",
    "--test-steps=2",
]


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


KILLED: dict[str, Callable[[Path], bool]] = {
    "supernet": lambda out: _text(out / "supernet.csv").count("\n") >= 3,
    "search": lambda out: _text(out / "journal.jsonl").count("\n") >= 4,
    "finalising": lambda out: '"trained"' in _text(out / "finalised" / "rows.jsonl"),
}


@pytest.mark.slow
def test_killed_in_every_stage_and_continued(tmp_path: Path) -> None:
    """SIGKILL in the supernet's training, in the search and in finalising of one run, against an undisturbed one."""

    def start(out: Path) -> "subprocess.Popen[bytes]":
        command = [sys.executable, str(EXPERIMENTS / "tam_cifar10.py"), *FLAGS, f"--out={out}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    undisturbed = start(whole)
    said, _ = undisturbed.communicate(timeout=600)
    assert undisturbed.returncode == 0, said.decode()
    for reached in KILLED.values():
        process = start(killed)
        deadline = time.monotonic() + 400
        while not reached(killed) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert process.poll() is None, process.communicate()[0].decode()
        process.send_signal(signal.SIGKILL)
        process.communicate()
    last = start(killed)
    said, _ = last.communicate(timeout=600)
    assert last.returncode == 0, said.decode()
    found = weights(killed)
    for name, value in weights(whole).items():
        assert torch.equal(found[name], value), name
    for name in TABLES:
        assert rows(killed / name) == rows(whole / name), name


@pytest.mark.slow
def test_a_search_without_an_attack_has_no_statistics_of_layers(tmp_path: Path, nothing_is_drawn: None) -> None:
    plain = replace(TINY, out=tmp_path / "run", search=replace(TINY.search, objectives=("clean_error", "params")))
    assert "no statistics of layers" in run(plain)
    assert len(rows(tmp_path / "run" / "population.csv")) == 8
    assert not (tmp_path / "run" / "finalised").exists()


def test_what_finalising_needs_is_said_before_a_supernet_is_trained(tmp_path: Path) -> None:
    out = tmp_path / "run"
    plain = replace(WHOLE, out=out, search=replace(TINY.search, objectives=("clean_error", "params")))
    with pytest.raises(ConfigurationError, match="pgd_error is missing"):
        run(plain)
    with pytest.raises(DataError, match="at least one image a class"):
        run(replace(TINY, out=out, after=replace(AFTER, test_limit=9)))
    assert not out.exists()


def test_the_folder_of_another_method_is_refused(finished: Path, tmp_path: Path) -> None:
    before = contents(finished)
    with pytest.raises(RunMismatchError, match="method is tam-nas there, roco-nas here"):
        run_roco(replace(ROCO, out=finished))
    assert contents(finished) == before
    (tmp_path / "journal.jsonl").touch()
    identity = {"method": "roco-nas", "data": {"name": "digits"}}
    (tmp_path / "config.json").write_text(json.dumps({"settings": {"data": "digits"}, "identity": identity}))
    with pytest.raises(RunMismatchError, match="method is roco-nas there, tam-nas here"):
        run(replace(TINY, out=tmp_path))


@pytest.mark.parametrize("name", PRESETS)
def test_options_come_back_from_a_file(name: str) -> None:
    options = replace(PRESETS[name], out=Path.cwd() / "somewhere")
    assert from_json(TamOptions, json.loads(json.dumps(as_json(options)))) == options


def test_an_objective_that_trains_by_itself_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="expected objectives of the supernet's weights"):
        TamOptions(search=EvolutionConfig(objectives=("quick_robust_error", "params")))


def test_the_papers_settings() -> None:
    paper = PRESETS["paper"]
    assert (paper.search.population, paper.search.generations, paper.search.tournament) == (50, 20, 10)
    assert paper.search.objectives == ("clean_error", "pgd_error", "params")
    assert (paper.attacks.attack_epsilon, paper.attacks.attack_steps) == (8 / 255, 10)
    assert paper.recipe() == TradesYopo(epsilon=8 / 255, step=0.007 / 0.031 * 8 / 255, m=5, n=3)
    assert paper.space(32).n_genes == 32


@pytest.mark.parametrize(("steps", "loops"), YOPO_LOOPS.items())
def test_supernets_of_tables_2_to_5(steps: int, loops: tuple[int, int]) -> None:
    recipe = TamOptions(supernet_epsilon=2 / 255, supernet_steps=steps).recipe()
    assert isinstance(recipe, TradesYopo)
    assert (recipe.epsilon, (recipe.m, recipe.n)) == (2 / 255, loops)
    assert recipe.m * recipe.n >= steps


def test_other_recipes_of_the_supernet() -> None:
    assert TamOptions(supernet_recipe="standard").recipe() is standard
    trades = TamOptions(supernet_recipe="trades", supernet_steps=7, supernet_step=0.01, supernet_balance=0.5).recipe()
    assert trades == Trades(epsilon=8 / 255, step=0.01, steps=7, balance=0.5)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"supernet_steps": 7}, "expected --supernet-steps 1, 2, 5, 10 with trades_yopo, got 7"),
        ({"width": 0.0}, r"expected width > 0, got 0\.0"),
        ({"intermediate": 3}, "expected intermediate <= 2, got 3"),
        ({"window": (3.0, 2.0)}, "expected a window of parameters"),
        ({"crossover_kind": "two"}, "unknown crossover 'two'; known: one_point, uniform"),
        ({"recalibration_batches": 0}, "expected recalibration_batches >= 1, got 0"),
        ({"supernet_epsilon": -1.0}, r"expected supernet_epsilon in \[0, 1\]"),
        ({"search": EvolutionConfig(objectives=("clean_error", "adversarial_set_error"))}, "objectives without a set"),
    ],
)
def test_options_that_make_no_sense_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises((ConfigurationError, KeyError), match=said):
        TamOptions(**given)
