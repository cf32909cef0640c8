"""A front trained again, from end to end with tiny networks: files, resuming, refusing."""

import csv
import io
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from evonas.adversarial_sets import AdversarialSet, AttackCell, Card, CardData, Piece, Target, assemble
from evonas.audit import RetrainedRecords, Retraining, Scoring
from evonas.data import Dataset
from evonas.errors import ConfigurationError, DataError, RunInUseError, UnknownNameError
from evonas.report import FIGURES
from evonas.runs import RocoSettings, RunFolder, run_roco
from evonas.runs.execution import ExecutionSettings
from evonas.runs.interrupt import Interrupted
from evonas.runs.retrain import RetrainSettings, check_retraining, retrain_front
from evonas.runs.search import Plan
from evonas.runs.stored import stored_plan
from evonas.search import Entry, EvolutionConfig, Journal, read_journal
from evonas.spaces import PhaseSpace
from evonas.training import TrainingConfig
from evonas.types import EvaluationResult, Genome, Report

TINY = RocoSettings(
    data="digits",
    train_limit=60,
    val_limit=50,
    channels=2,
    phases=2,
    nodes=3,
    training=TrainingConfig(epochs=1, batch_size=30, lr=0.1),
    search=EvolutionConfig(population=2, generations=0),
    execution=ExecutionSettings(device="cpu", threads=1),
)
AFTER = RetrainSettings(
    retrain=True,
    top=2,
    retrain_channels=4,
    retrain_epochs=1,
    retrain_batch_size=30,
    test_limit=40,
    suite=("pgd", "fgsm", "bim"),
)


SPACE = PhaseSpace(phases=2, nodes=3, channels=2)
WIDE = replace(SPACE, channels=4)
DESIGNS = {name: SPACE.canonical(genome) for name, genome in SPACE.designs().items()}
"""By MACs: pair, chain, residual, dense."""


def write_run(out: Path, column: str, errors: dict[str, float]) -> None:
    """A run whose journal says that these designs were found with these errors."""
    search = replace(TINY.search, objectives=("macs", column))
    run_roco(replace(TINY, out=out, search=search), Console(file=io.StringIO()))
    identity, _ = read_journal(out / "journal.jsonl")
    (out / "journal.jsonl").unlink()
    with Journal(out / "journal.jsonl", identity, sync=False) as journal:
        for number, (name, error) in enumerate(errors.items()):
            params, macs = SPACE.cost(DESIGNS[name])
            values = {"macs": macs, column: error, "params": params}
            journal.append(Entry(EvaluationResult(tuple(DESIGNS[name]), values), 0, number))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`robust` has the front pair, chain, dense; `baseline` has chain, residual."""
    root = tmp_path_factory.mktemp("runs")
    write_run(root / "robust", "pgd_error", {"dense": 0.1, "residual": 0.6, "chain": 0.5, "pair": 0.9})
    write_run(root / "baseline", "clean_error", {"dense": 0.3, "residual": 0.3, "chain": 0.5})
    return root


@pytest.fixture
def folder(runs: Path, tmp_path: Path) -> RunFolder:
    """A copy of `robust` in which nothing was trained again yet."""
    copied = tmp_path / "robust"
    copied.mkdir()
    for name in ("config.json", "journal.jsonl"):
        (copied / name).write_bytes((runs / "robust" / name).read_bytes())
    return RunFolder(copied)


@pytest.fixture(scope="module")
def plan(runs: Path) -> Plan:
    return stored_plan(RunFolder(runs / "robust"))


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than all the rest."""
    monkeypatch.setattr("evonas.runs.retrain.write_figures", lambda *arguments: [])


def retrain(
    folder: RunFolder, plan: Plan, settings: RetrainSettings = AFTER, the_set: AdversarialSet | None = None
) -> str:
    screen = io.StringIO()
    retrain_front(folder, plan, settings, the_set, Console(file=screen, width=200))
    return screen.getvalue()


def table(folder: RunFolder) -> list[dict[str, str]]:
    with open(folder.path / "retrained" / "retrained.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k != "train_seconds"} for row in csv.DictReader(file)]


def designs_of(rows: list[dict[str, str]]) -> list[tuple[str, str]]:
    """(configuration, name of the design) of every row."""
    names = {" ".join(map(str, genome)): name for name, genome in DESIGNS.items()}
    return [(row["configuration"], names[row["genome"]]) for row in rows]


def tiny_set(data: Dataset) -> AdversarialSet:
    """Fifteen images, ten of L0 and ten of Linf: 5 belong to both."""
    clean, labels = data.adversarial.images, data.adversarial.labels
    changed = clean ^ np.uint8(1)
    halves = {"L0": np.arange(10), "Linf": np.arange(5, 15)}
    pieces = [
        Piece(target=0, attack=name, threshold=1, images=changed[index], labels=labels[index], sources=index)
        for name, index in halves.items()
    ]
    contents = assemble(pieces, clean)
    target = Target(
        name="LeNet",
        width=1.0,
        params=10,
        macs=100,
        epochs=1,
        lr=0.1,
        batch_size=8,
        recipe="SGD",
        train_images=20,
        clean_accuracy=0.5,
        adversarial_part_accuracy=1.0,
    )
    cells = tuple(
        AttackCell(
            target="LeNet",
            attack=name,
            threshold=1,
            algorithm="de",
            population=8,
            generations=2,
            tried=20,
            successful=10,
            epsilon_used=1 / 255,
            epsilon_mean=1 / 255,
            evaluations=20,
            seconds=0.5,
        )
        for name in halves
    )
    about = CardData(
        name="digits",
        n_classes=10,
        image_size=32,
        mean=data.mean,
        deviation=data.deviation,
        train_images=len(data.train),
        adversarial_images=len(clean),
        train_fingerprint="aa",
        adversarial_fingerprint="bb",
        split_seed=0,
    )
    card = Card(
        name="tiny",
        data=about,
        preset="quick",
        seed=0,
        device="cpu",
        precision="fp32",
        threads=1,
        targets=(target,),
        cells=cells,
        versions={"torch": "2.6"},
        created_by="evonas",
        **contents.counts(),
    )
    return AdversarialSet(*contents, card)


class TestSettings:
    @pytest.mark.parametrize("name", ["top", "retrain_channels", "retrain_epochs", "retrain_batch_size", "test_limit"])
    def test_what_is_below_one_is_refused(self, name: str) -> None:
        with pytest.raises(ConfigurationError, match=f"expected {name} >= 1, got 0"):
            RetrainSettings(**{name: 0})

    def test_the_suite_is_checked(self) -> None:
        with pytest.raises(UnknownNameError, match="part of the suite 'square'"):
            RetrainSettings(suite=("square",))
        with pytest.raises(ConfigurationError, match="once"):
            RetrainSettings(suite=("pgd", "pgd"))

    def test_against_without_retraining_does_nothing_and_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="expected --retrain with --against"):
            RetrainSettings(against="runs/other")

    def test_the_defaults_are_the_papers(self) -> None:
        paper = RetrainSettings()
        assert (paper.top, paper.retrain_channels, paper.retrain_epochs, paper.retrain_batch_size) == (5, 32, 120, 128)
        assert paper.test_limit is None


class TestOneRun:
    def test_it_leaves_its_files_and_prints_the_tables(self, folder: RunFolder, plan: Plan) -> None:
        data = plan.evaluator.prepare.data
        screen = retrain(folder, plan, the_set=tiny_set(data))
        rows = table(folder)
        weights = {path.name for path in (folder.path / "retrained").glob("*.safetensors")}
        assert {name.split("-")[0] for name in weights} == {row["arch_id"] for row in rows}
        others = {path.name for path in (folder.path / "retrained").iterdir()} - weights
        assert others == {"rows.jsonl", "retrained.csv", "tables.md", *FIGURES}
        assert all(title in screen for title in ("Table III", "Table IV", "PGD, L-inf epsilon 1/255"))
        assert "Table V" not in screen
        assert [name for name in rows[0] if name.endswith(("error", "error_L0", "error_Linf"))] == [
            "clean_error",
            "adversarial_set_error",
            "adversarial_set_error_L0",
            "adversarial_set_error_Linf",
            "pgd_error",
            "fgsm_0.1_error",
            "fgsm_0.2_error",
            "fgsm_0.3_error",
            "bim_error",
        ]

    @pytest.mark.usefixtures("no_pictures")
    def test_the_lightest_of_the_front_are_taken(self, folder: RunFolder, plan: Plan) -> None:
        """`residual` is lighter than `dense`, but not on the front."""
        retrain(folder, plan)
        two = table(folder)
        assert designs_of(two) == [("RoCo-NAS", "pair"), ("RoCo-NAS", "chain")]
        assert "1 left to do" in retrain(folder, plan, replace(AFTER, top=9))
        rows = table(folder)
        assert rows[:2] == two
        assert [name for _, name in designs_of(rows)] == ["pair", "chain", "dense"]
        for row in rows:
            network = WIDE.build([int(gene) for gene in row["genome"].split()])
            assert int(row["params"]) == sum(p.numel() for p in network.parameters())
            assert (row["channels"], row["epochs"], row["status"]) == ("4", "1", "ok")

    @pytest.mark.usefixtures("no_pictures")
    def test_errors_are_those_of_the_kept_weights(self, folder: RunFolder, plan: Plan) -> None:
        """Counted again by hand: the test part's 40 images, and the set's 15."""
        from safetensors.torch import load_file

        data = plan.evaluator.prepare.data
        the_set = tiny_set(data)
        retrain(folder, plan, the_set=the_set)
        row = table(folder)[0]
        (path,) = (folder.path / "retrained").glob(f"{row['arch_id']}-*.safetensors")
        network = WIDE.build([int(gene) for gene in row["genome"].split()], normalization=data.normalization).eval()
        network.load_state_dict(load_file(path))
        part = Scoring(test_limit=40).test_part(data, plan.search.seed)

        def wrong(images: Any, labels: Any) -> Any:
            with torch.no_grad():
                return network(torch.from_numpy(images).float() / 255).argmax(dim=1).numpy() != labels

        assert float(row["clean_error"]) == wrong(part.images, part.labels).mean()
        on_set = wrong(the_set.images, the_set.labels)
        assert float(row["adversarial_set_error"]) == pytest.approx(on_set.mean(), abs=1e-12)
        assert float(row["adversarial_set_error_L0"]) == on_set[the_set.mask("L0")].mean()

    def test_the_same_command_again_does_nothing_again(
        self, folder: RunFolder, plan: Plan, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        retrain(folder, plan)
        before = {path.name: path.read_bytes() for path in (folder.path / "retrained").iterdir()}
        monkeypatch.setattr(Retraining, "train", None)
        monkeypatch.setattr(Scoring, "score", None)
        assert "0 left to do" in retrain(folder, plan)
        assert {path.name: path.read_bytes() for path in (folder.path / "retrained").iterdir()} == before

    @pytest.mark.usefixtures("no_pictures")
    def test_another_suite_or_limit_scores_again_and_trains_nothing(
        self, folder: RunFolder, plan: Plan, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        retrain(folder, plan)
        first = table(folder)
        monkeypatch.setattr(Retraining, "train", None)
        retrain(folder, plan, replace(AFTER, suite=("fgsm",)))
        assert "pgd_error" not in table(folder)[0]
        retrain(folder, plan, replace(AFTER, test_limit=60))
        retrain(folder, plan)
        assert table(folder) == first


class Signals(io.StringIO):
    """A screen on which a line brings Ctrl-C."""

    def __init__(self, line: str) -> None:
        super().__init__()
        self.line = line

    def write(self, text: str) -> int:
        written = super().write(text)
        if self.line in text:
            os.kill(os.getpid(), signal.SIGINT)
        return written


@pytest.mark.usefixtures("no_pictures")
class TestContinuing:
    def test_after_ctrl_c_the_next_network_is_next(
        self, folder: RunFolder, plan: Plan, runs: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(Interrupted):
            retrain_front(folder, plan, against(runs), None, Console(file=Signals("2/"), width=200))
        assert not (folder.path / "retrained" / "retrained.csv").exists()
        trained: list[tuple[int, ...]] = []
        train = Retraining.train

        def counted(self: Retraining, genome: Genome, report: Report) -> tuple[bytes, float]:
            trained.append(tuple(genome))
            return train(self, genome, report)

        monkeypatch.setattr(Retraining, "train", counted)
        retrain(folder, plan, against(runs))
        assert trained == [tuple(DESIGNS[name]) for name in ("chain", "residual")]

    def test_weights_that_are_done_are_scored_and_give_the_same_numbers(
        self, folder: RunFolder, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stopped(*arguments: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(Scoring, "score", stopped)
            with pytest.raises(KeyboardInterrupt):
                retrain(folder, plan, replace(AFTER, top=1))
        assert len(list((folder.path / "retrained").glob("*.safetensors"))) == 1
        with monkeypatch.context() as patched:
            patched.setattr(Retraining, "train", None)
            retrain(folder, plan, replace(AFTER, top=1))
        continued = table(folder)
        (folder.path / "retrained").rename(tmp_path / "aside")
        retrain(folder, plan, replace(AFTER, top=1))
        assert table(folder) == continued

    def test_damaged_weights_are_trained_again_and_it_is_said(self, folder: RunFolder, plan: Plan) -> None:
        retrain(folder, plan)
        weights = {path: path.read_bytes() for path in (folder.path / "retrained").glob("*.safetensors")}
        damaged = next(iter(weights))
        damaged.write_bytes(weights[damaged][:-1] + b"\x00")
        screen = retrain(folder, plan, replace(AFTER, test_limit=50))
        assert f"{damaged} is gone or damaged" in screen
        assert screen.count("is gone or damaged") == 1
        assert {path: path.read_bytes() for path in weights} == weights

    def test_a_torn_record_is_done_again_and_it_is_said(self, folder: RunFolder, plan: Plan) -> None:
        retrain(folder, plan)
        first = table(folder)
        rows = folder.path / "retrained" / "rows.jsonl"
        rows.write_bytes(rows.read_bytes()[:-5])
        screen = retrain(folder, plan)
        assert "1 line(s) that are not whole" in screen
        assert "1 left to do" in screen
        assert table(folder) == first

    def test_a_second_process_is_refused(self, folder: RunFolder, plan: Plan) -> None:
        with RetrainedRecords.opened(folder.path / "retrained"), pytest.raises(RunInUseError):
            retrain(folder, plan)


def against(runs: Path) -> RetrainSettings:
    return replace(AFTER, against=str(runs / "baseline"))


@pytest.mark.usefixtures("no_pictures")
class TestTwoRuns:
    def test_both_fronts_stand_side_by_side(self, folder: RunFolder, plan: Plan, runs: Path) -> None:
        screen = retrain(folder, plan, against(runs))
        rows = table(folder)
        assert designs_of(rows) == [
            ("RoCo-NAS", "pair"),
            ("RoCo-NAS", "chain"),
            ("Baseline-NAS", "chain"),
            ("Baseline-NAS", "residual"),
        ]
        first, second = ({**row, "configuration": ""} for row in rows[1:3])
        assert first == second  # trained once, the same network in both
        assert "3 left to do" in screen
        assert len(list((folder.path / "retrained").glob("*.safetensors"))) == 3
        assert "Table V" in screen

    def test_runs_of_the_same_kind_go_by_their_folders(self, folder: RunFolder, plan: Plan, runs: Path) -> None:
        copied = folder.path.parent / "other"
        copied.mkdir()
        for name in ("config.json", "journal.jsonl"):
            (copied / name).write_bytes((runs / "robust" / name).read_bytes())
        retrain(folder, plan, replace(AFTER, against=str(copied)))
        assert {row["configuration"] for row in table(folder)} == {"RoCo-NAS (robust)", "RoCo-NAS (other)"}

    def test_this_run_and_no_run_are_refused(self, folder: RunFolder, plan: Plan, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="expected another run with --against"):
            check_retraining(folder, plan, replace(AFTER, against=str(folder.path)))
        with pytest.raises(ConfigurationError, match="expected a run folder"):
            check_retraining(folder, plan, replace(AFTER, against=str(tmp_path / "nowhere")))

    @pytest.mark.parametrize(
        ("place", "value", "said"),
        [
            (("data", "fingerprint"), "0" * 32, "expected a run on the same images with --against"),
            (("space", "name"), "shuffle", "over the space phase with --against"),
        ],
    )
    def test_what_cannot_be_compared_is_refused(
        self, folder: RunFolder, plan: Plan, runs: Path, tmp_path: Path, place: tuple[str, str], value: str, said: str
    ) -> None:
        other = tmp_path / "other"
        other.mkdir()
        config = json.loads((runs / "baseline" / "config.json").read_text())
        config["identity"][place[0]][place[1]] = value
        (other / "config.json").write_text(json.dumps(config))
        (other / "journal.jsonl").write_bytes((runs / "baseline" / "journal.jsonl").read_bytes())
        with pytest.raises(ConfigurationError, match=said) as refused:
            retrain(folder, plan, replace(AFTER, against=str(other)))
        assert "\n" not in str(refused.value)
        assert not (folder.path / "retrained").exists()


def test_a_missing_library_is_told_before_anything_is_trained(
    folder: RunFolder, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "foolbox", None)  # importing it fails, as where it is not installed
    with pytest.raises(ConfigurationError, match=r"pip install 'evonas\[audit\]'.*--suite pgd,fgsm,bim"):
        retrain(folder, plan, replace(AFTER, suite=("pgd", "fgsm", "bim", "cw", "deepfool")))
    assert not (folder.path / "retrained").exists()


def test_too_few_test_images_are_told_before_anything_is_trained(folder: RunFolder, plan: Plan) -> None:
    with pytest.raises(DataError, match="at least one image a class"):
        retrain(folder, plan, replace(AFTER, test_limit=9))
    assert not (folder.path / "retrained").exists()


def test_a_network_that_diverges_is_a_failed_row(folder: RunFolder, plan: Plan) -> None:
    prepare: Any = plan.evaluator.prepare
    wild = replace(prepare, training=replace(prepare.training, lr=1e30, grad_clip=1e30))
    doomed = replace(plan, evaluator=replace(plan.evaluator, prepare=wild))
    screen = retrain(folder, doomed)
    assert "failed: training diverged" in screen
    assert "Left out, because training or scoring diverged" in screen
    assert {(row["status"], row["genome"] != "") for row in table(folder)} == {("failed", True)}
    assert not (folder.path / "retrained" / "figure2.png").exists()
    assert "0 left to do" in retrain(folder, doomed)
    assert "0 left to do" not in retrain(folder, replace(doomed, retry_failed=True))
