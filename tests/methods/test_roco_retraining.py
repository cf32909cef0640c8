"""RoCo-NAS's front trained again, with tiny networks: files, numbers, continuing, two runs side by side, refusing."""

import io
import json
import os
import shutil
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from tiny_runs import ROCO, SPACE, contents, genome_of, rows
from torch import nn

from evonas.adversarial_sets import AdversarialSet, save_adversarial_set
from evonas.audit import AuditRecords, FinalTraining
from evonas.data import load_data
from evonas.errors import ConfigurationError, EvonasError, RunInUseError, UnknownNameError
from evonas.evaluation import Evaluator
from evonas.methods.roco import RocoOptions, compose
from evonas.methods.roco import run as run_roco
from evonas.methods.roco_retraining import RetrainOptions, prepare_retraining, retrain_front
from evonas.report import FIGURES
from evonas.runs import Result, Run
from evonas.runs.folder import stored_searched
from evonas.runs.interrupt import Interrupted
from evonas.search import Entry, Journal, read_journal
from evonas.types import EvaluationResult, Genome, arch_id

pytestmark = pytest.mark.lengthy

WIDE = replace(SPACE, channels=4)
DESIGNS = {name: SPACE.canonical(genome) for name, genome in SPACE.designs().items()}
"""By MACs: pair, chain, residual, dense."""


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory, digits_set: AdversarialSet) -> RocoOptions:
    """Of a search of two candidates whose front is trained again for two epochs, and scored on forty images."""
    file = tmp_path_factory.mktemp("sets") / "mine.safetensors"
    save_adversarial_set(file, digits_set)
    after = RetrainOptions(
        retrain=True,
        top=2,
        retrain_channels=4,
        retrain_epochs=2,
        retrain_batch_size=5,
        test_limit=40,
        suite=("pgd", "fgsm", "bim"),
    )
    search = replace(ROCO.search, population=2, generations=0)
    return replace(ROCO, search=search, after=after, adversarial_set=str(file))


def write_run(options: RocoOptions, out: Path, column: str, errors: dict[str, float]) -> None:
    """A run whose journal says that these designs were found with these errors."""
    search = replace(options.search, objectives=(column, "macs"))
    run_roco(replace(options, out=out, search=search, after=RetrainOptions()), Console(file=io.StringIO()))
    identity, _ = read_journal(out / "journal.jsonl")
    (out / "journal.jsonl").unlink()
    with Journal(out / "journal.jsonl", identity, sync=False) as journal:
        for number, (name, error) in enumerate(errors.items()):
            params, macs = SPACE.cost(DESIGNS[name])
            values = {"macs": macs, column: error, "params": params}
            journal.append(Entry(EvaluationResult(tuple(DESIGNS[name]), values), 0, number))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, options: RocoOptions) -> Path:
    """`robust` has the front pair, chain, dense; `baseline` has chain, residual."""
    root = tmp_path_factory.mktemp("runs")
    write_run(options, root / "robust", "pgd_error", {"dense": 0.1, "residual": 0.6, "chain": 0.5, "pair": 0.9})
    write_run(options, root / "baseline", "clean_error", {"dense": 0.3, "residual": 0.3, "chain": 0.5})
    return root


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than all the rest."""
    monkeypatch.setattr("evonas.report.write_figures", lambda *arguments: [])


def copy_of(runs: Path, name: str, folder: Path) -> Path:
    """A copy of a run in which nothing was trained again yet."""
    folder.mkdir()
    for file in ("config.json", "journal.jsonl"):
        (folder / file).write_bytes((runs / name / file).read_bytes())
    return folder


@pytest.fixture
def folder(runs: Path, tmp_path: Path) -> Path:
    """A copy of `robust` in which nothing was trained again yet."""
    return copy_of(runs, "robust", tmp_path / "robust")


@dataclass(frozen=True)
class Retraining:
    """Trains the front of a folder again, or continues with that; gives the text on the screen."""

    options: RocoOptions
    folder: Path

    def __call__(
        self,
        screen: io.StringIO | None = None,
        retry_failed: bool = False,
        training: dict[str, Any] | None = None,
        **after: Any,
    ) -> str:
        """Arguments: fields of the candidates' training and of RetrainOptions that differ."""
        screen = screen or io.StringIO()
        search = replace(self.options.search, objectives=("pgd_error", "macs"))
        options = replace(self.options, out=self.folder, search=search, retry_failed=retry_failed)
        options = replace(options, after=replace(self.options.after, **after))
        with Run.open("roco-nas", options, console=Console(file=screen, width=200)) as run:
            _, candidates, objectives = compose(run, options)
            candidates = replace(candidates, training=replace(candidates.training, **(training or {})))
            the_set = prepare_retraining(run, options, candidates)
            found = Result(run.folder, stored_searched(run.stored), lambda: Evaluator(candidates, objectives, 1))
            retrain_front(run, options, candidates, found, the_set)
        return screen.getvalue()


@pytest.fixture
def retrain(options: RocoOptions, folder: Path) -> Retraining:
    return Retraining(options, folder)


@pytest.fixture(scope="module")
def retrained(runs: Path, options: RocoOptions, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """(folder, screen) of a front that was trained again, with pictures; it is looked at, not changed."""
    folder = copy_of(runs, "robust", tmp_path_factory.mktemp("retrained") / "robust")
    return folder, Retraining(options, folder)()


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FinalTraining, "train", lambda *arguments: pytest.fail("a network was trained"))


def table(folder: Path) -> list[dict[str, str]]:
    return rows(folder / "retrained" / "retrained.csv")


def designs_of(rows: list[dict[str, str]]) -> list[tuple[str, str]]:
    """(configuration, name of the design) of every row."""
    names = {" ".join(map(str, genome)): name for name, genome in DESIGNS.items()}
    return [(row["configuration"], names[row["genome"]]) for row in rows]


def trainings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Genomes of the trainings from here on."""
    trained: list[tuple[int, ...]] = []
    train = FinalTraining.train

    def counted(self: FinalTraining, genome: Genome, *arguments: Any) -> tuple[bytes, float]:
        trained.append(tuple(genome))
        return train(self, genome, *arguments)

    monkeypatch.setattr(FinalTraining, "train", counted)
    return trained


def wrong(network: nn.Module, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    with torch.no_grad():
        predicted = network(torch.from_numpy(images).float() / 255).argmax(dim=1).numpy()
    return np.asarray(predicted != labels)


class TestOptions:
    @pytest.mark.parametrize("name", ["top", "retrain_channels", "retrain_epochs", "test_limit"])
    def test_what_is_below_one_is_refused(self, name: str) -> None:
        values: dict[str, Any] = {name: 0}
        with pytest.raises(ConfigurationError, match=f"expected {name} >= 1, got 0"):
            RetrainOptions(**values)

    def test_the_suite_is_checked(self) -> None:
        with pytest.raises(UnknownNameError, match="'squares'"):
            RetrainOptions(suite=("squares",))
        with pytest.raises(ConfigurationError, match="once"):
            RetrainOptions(suite=("pgd", "pgd"))

    def test_the_defaults_are_the_papers(self) -> None:
        paper = RetrainOptions()
        assert (paper.top, paper.retrain_channels, paper.retrain_epochs, paper.retrain_batch_size) == (5, 32, 120, 128)
        assert paper.test_limit is None
        assert paper.suite == ("pgd", "fgsm", "bim", "cw", "deepfool")


class TestOneRun:
    def test_it_leaves_its_files_and_prints_the_tables(self, retrained: tuple[Path, str]) -> None:
        folder, screen = retrained
        found = table(folder)
        weights = {path.name for path in (folder / "retrained").glob("*.safetensors")}
        assert {name.split("-")[0] for name in weights} == {row["arch_id"] for row in found}
        others = {path.name for path in (folder / "retrained").iterdir()} - weights
        assert others == {"rows.jsonl", "retrained.csv", "tables.md", *FIGURES}
        for title in ("Table III", "Table IV", "PGD, L-inf epsilon 1/255"):
            assert title in screen
            assert title in (folder / "retrained" / "tables.md").read_text()
        assert "Table V" not in screen
        assert [name for name in found[0] if name.endswith(("error", "error_L0", "error_Linf"))] == [
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

    def test_on_all_images_no_set_is_scored_whose_clean_images_are_trained_on(self, retrain: Retraining) -> None:
        screen = retrain(train_on="all", retrain_epochs=1, suite=("pgd",))
        line = "adversarial_set_error is left out: with --train-on all, networks are trained on 12 clean images behind"
        assert line in screen
        assert "on the 350 images of the train, validation and adversarial parts" in screen
        assert "Table III" not in screen
        assert "Table IV" in screen
        assert "Trained on all images but the test part" in (retrain.folder / "retrained" / "tables.md").read_text()
        found = table(retrain.folder)
        assert {row["train_on"] for row in found} == {"all"}
        assert not [name for name in found[0] if name.startswith("adversarial_set")]

    def test_every_network_is_taken_where_that_is_asked_for(self, retrain: Retraining) -> None:
        retrain(retrain_all=True, retrain_epochs=1, suite=("fgsm",))
        every = [("RoCo-NAS", name) for name in ("pair", "chain", "residual", "dense")]
        assert designs_of(table(retrain.folder)) == every

    def test_the_whole_front_is_taken(self, retrained: tuple[Path, str]) -> None:
        """`residual` is lighter than `dense`, but not on the front."""
        found = table(retrained[0])
        assert designs_of(found) == [("RoCo-NAS", "pair"), ("RoCo-NAS", "chain"), ("RoCo-NAS", "dense")]
        for row in found:
            network = WIDE.build(genome_of(row))
            assert int(row["params"]) == sum(p.numel() for p in network.parameters())
            assert (row["channels"], row["epochs"], row["status"]) == ("4", "2", "ok")

    def test_errors_are_those_of_the_kept_weights(
        self, retrained: tuple[Path, str], options: RocoOptions, digits_set: AdversarialSet
    ) -> None:
        """Counted again by hand: the test part's 40 images, and the set's 12."""
        folder, _ = retrained
        data = load_data("digits", train_limit=150, val_limit=50)
        part = options.after.measured().test_part(data, options.seed)
        assert len(part) == 40
        for row in table(folder):
            (path,) = (folder / "retrained").glob(f"{row['arch_id']}-*.safetensors")
            network = WIDE.build(genome_of(row), normalization=data.normalization)
            network.load_state_dict(load_file(path))
            on_part, on_set = (wrong(network.eval(), each.images, each.labels) for each in (part, digits_set))
            assert float(row["clean_error"]) == on_part.mean()
            assert float(row["adversarial_set_error"]) == pytest.approx(on_set.mean(), abs=1e-12)
            assert float(row["adversarial_set_error_L0"]) == on_set[digits_set.mask("L0")].mean()

    def test_the_rest_of_the_front_is_trained_beside_the_networks_named(
        self, retrain: Retraining, retrained: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trained = trainings(monkeypatch)
        retrain(retrain_networks=(arch_id(DESIGNS["chain"]),))
        assert trained == [tuple(DESIGNS["chain"])]
        assert table(retrain.folder) == table(retrained[0])[1:2]
        retrain()
        assert trained == [tuple(DESIGNS[name]) for name in ("chain", "pair", "dense")]
        assert table(retrain.folder) == table(retrained[0])

    @pytest.mark.usefixtures("no_training")
    def test_a_name_that_there_is_not_is_refused(self, retrain: Retraining) -> None:
        with pytest.raises(UnknownNameError, match=r"expected --retrain-networks .*, got best; see .*front\.csv"):
            retrain(retrain_networks=("best", arch_id(DESIGNS["pair"])))

    @pytest.mark.usefixtures("no_training")
    def test_the_tables_are_about_the_lightest(
        self, retrained: tuple[Path, str], tmp_path: Path, options: RocoOptions
    ) -> None:
        retrain = Retraining(options, Path(shutil.copytree(retrained[0], tmp_path / "again")))
        retrain(top=3)
        assert table(retrain.folder) == table(retrained[0])
        two, three = ((each / "retrained" / "tables.md").read_text() for each in (retrained[0], retrain.folder))
        assert two != three  # the mean over the top 3 has one more

    @pytest.mark.usefixtures("no_training")
    def test_the_same_command_again_does_nothing_again(
        self, retrained: tuple[Path, str], tmp_path: Path, options: RocoOptions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = Path(shutil.copytree(retrained[0], tmp_path / "again"))
        before = contents(folder)
        monkeypatch.setattr(FinalTraining, "candidate", lambda *arguments: pytest.fail("a network was measured"))
        Retraining(options, folder)()
        assert contents(folder) == before

    @pytest.mark.usefixtures("no_training")
    def test_another_suite_or_limit_scores_again_and_trains_nothing(
        self, retrained: tuple[Path, str], tmp_path: Path, options: RocoOptions
    ) -> None:
        retrain = Retraining(options, Path(shutil.copytree(retrained[0], tmp_path / "again")))
        retrain(suite=("fgsm",))
        assert "pgd_error" not in table(retrain.folder)[0]
        retrain(test_limit=60)
        assert table(retrain.folder) != table(retrained[0])
        retrain()
        assert table(retrain.folder) == table(retrained[0])

    def test_the_command_searches_and_trains_again(self, options: RocoOptions, tmp_path: Path) -> None:
        run_roco(replace(options, out=tmp_path / "run"), Console(file=io.StringIO()))
        front = {row["genome"] for row in rows(tmp_path / "run" / "front.csv")}
        found = table(tmp_path / "run")
        assert found
        assert {row["genome"] for row in found} <= front
        assert {row["configuration"] for row in found} == {"Baseline-NAS"}  # it searched errors and MACs alone


class Signals(io.StringIO):
    """A screen on which a line brings Ctrl-C, once."""

    def __init__(self, line: str) -> None:
        super().__init__()
        self.line = line

    def write(self, text: str) -> int:
        written = super().write(text)
        if self.line and self.line in text:
            self.line = ""
            os.kill(os.getpid(), signal.SIGINT)
        return written


class TestContinuing:
    def test_after_ctrl_c_no_network_is_trained_twice(
        self, retrain: Retraining, runs: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trained = trainings(monkeypatch)
        with pytest.raises(Interrupted):
            retrain(Signals("trained in"), against=str(runs / "baseline"))
        assert not (retrain.folder / "retrained" / "retrained.csv").exists()
        assert trained == [tuple(DESIGNS["pair"])]
        retrain(against=str(runs / "baseline"))
        assert trained == [tuple(DESIGNS[name]) for name in ("pair", "chain", "dense", "residual")]

    def test_weights_that_are_done_are_scored_and_give_the_same_numbers(
        self, retrain: Retraining, retrained: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stopped(*arguments: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(FinalTraining, "candidate", stopped)
            with pytest.raises(KeyboardInterrupt):
                retrain()
        weights = {path.name: path.read_bytes() for path in (retrain.folder / "retrained").glob("*.safetensors")}
        assert len(weights) == 3
        monkeypatch.setattr(FinalTraining, "train", lambda *arguments: pytest.fail("a network was trained"))
        retrain()
        assert table(retrain.folder) == table(retrained[0])

    def test_damaged_weights_are_trained_again_and_it_is_said(
        self, retrained: tuple[Path, str], tmp_path: Path, options: RocoOptions
    ) -> None:
        retrain = Retraining(options, Path(shutil.copytree(retrained[0], tmp_path / "again")))
        weights = {path: path.read_bytes() for path in (retrain.folder / "retrained").glob("*.safetensors")}
        damaged = next(iter(weights))
        damaged.write_bytes(weights[damaged][:-1] + b"\x00")
        screen = retrain(test_limit=50)
        assert f"{damaged} is gone or damaged" in screen
        assert screen.count("is gone or damaged") == 1
        assert {path: path.read_bytes() for path in weights} == weights

    def test_a_torn_record_is_done_again_and_it_is_said(
        self, retrained: tuple[Path, str], tmp_path: Path, options: RocoOptions
    ) -> None:
        retrain = Retraining(options, Path(shutil.copytree(retrained[0], tmp_path / "again")))
        records = retrain.folder / "retrained" / "rows.jsonl"
        records.write_bytes(records.read_bytes()[:-5])
        assert "1 damaged line(s)" in retrain()
        assert table(retrain.folder) == table(retrained[0])

    def test_a_second_process_is_refused(self, retrain: Retraining) -> None:
        with AuditRecords.opened(retrain.folder / "retrained"), pytest.raises(RunInUseError):
            retrain()


class TestTwoRuns:
    @pytest.mark.slow
    def test_both_fronts_stand_side_by_side(
        self, retrain: Retraining, runs: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trained = trainings(monkeypatch)
        screen = retrain(against=str(runs / "baseline"))
        found = table(retrain.folder)
        assert designs_of(found) == [
            ("RoCo-NAS", "pair"),
            ("RoCo-NAS", "chain"),
            ("RoCo-NAS", "dense"),
            ("Baseline-NAS", "chain"),
            ("Baseline-NAS", "residual"),
        ]
        first, second = ({**found[place], "configuration": ""} for place in (1, 3))
        assert first == second  # trained once, the same network in both
        assert len(trained) == 4
        assert len(list((retrain.folder / "retrained").glob("*.safetensors"))) == 4
        assert "Table V" in screen

    def test_runs_of_the_same_kind_go_by_their_folders(
        self, retrain: Retraining, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = copy_of(runs, "robust", tmp_path / "other")
        trained = trainings(monkeypatch)
        retrain(against=str(other), retrain_networks=(arch_id(DESIGNS["pair"]),))
        assert designs_of(table(retrain.folder)) == [("RoCo-NAS (robust)", "pair"), ("RoCo-NAS (other)", "pair")]
        assert len(trained) == 1

    def test_this_run_and_no_run_are_refused(self, retrain: Retraining, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="expected another run with --against"):
            retrain(against=str(retrain.folder))
        with pytest.raises(ConfigurationError, match="expected a run folder"):
            retrain(against=str(tmp_path / "nowhere"))

    @pytest.mark.parametrize(
        ("place", "value", "said"),
        [
            (("data", "fingerprint"), "0" * 32, "expected a run on the same images with --against"),
            (("space", "name"), "shuffle", "over the space phase with --against"),
        ],
    )
    def test_what_cannot_be_compared_is_refused(
        self, retrain: Retraining, runs: Path, tmp_path: Path, place: tuple[str, str], value: str, said: str
    ) -> None:
        other = copy_of(runs, "baseline", tmp_path / "other")
        config = json.loads((other / "config.json").read_text())
        config["identity"][place[0]][place[1]] = value
        (other / "config.json").write_text(json.dumps(config))
        (other / "journal.jsonl").unlink()
        with Journal(other / "journal.jsonl", config["identity"]):  # it has the identity, too
            pass
        with pytest.raises(ConfigurationError, match=said) as refused:
            retrain(against=str(other))
        assert "\n" not in str(refused.value)
        assert not (retrain.folder / "retrained").exists()


class TestToldBeforehand:
    """What would stop it is told before anything is searched or trained."""

    def refused(self, options: RocoOptions, tmp_path: Path, **after: Any) -> str:
        options = replace(options, out=tmp_path / "run", after=replace(options.after, **after))
        with pytest.raises(EvonasError) as refused:
            run_roco(options, Console(file=io.StringIO()))
        assert not (tmp_path / "run").exists()
        return str(refused.value)

    def test_a_missing_library(self, options: RocoOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "foolbox", None)  # importing it fails, as where it is not installed
        said = self.refused(options, tmp_path, suite=("pgd", "fgsm", "bim", "cw", "deepfool"))
        assert "pip install 'evonas[audit]'" in said
        assert "--suite" in said

    def test_too_few_test_images(self, options: RocoOptions, tmp_path: Path) -> None:
        assert "at least one image a class" in self.refused(options, tmp_path, test_limit=9)

    def test_no_other_run(self, options: RocoOptions, tmp_path: Path) -> None:
        assert "expected a run folder" in self.refused(options, tmp_path, against=str(tmp_path / "nowhere"))

    def test_another_run_without_a_front(self, options: RocoOptions, runs: Path, tmp_path: Path) -> None:
        other = copy_of(runs, "baseline", tmp_path / "other")
        header = (other / "journal.jsonl").read_bytes().splitlines(keepends=True)[0]
        (other / "journal.jsonl").write_bytes(header)
        assert "expected networks on the front" in self.refused(options, tmp_path, against=str(other))


def test_a_network_that_diverges_is_a_failed_row(retrain: Retraining, monkeypatch: pytest.MonkeyPatch) -> None:
    wild = {"lr": 1e30, "grad_clip": 1e30}
    screen = retrain(training=wild)
    assert "failed: training diverged" in screen
    assert "Left out, because training or scoring diverged" in screen
    assert {(row["status"], row["genome"] != "") for row in table(retrain.folder)} == {("failed", True)}
    assert not (retrain.folder / "retrained" / "figure2.png").exists()
    trained = trainings(monkeypatch)
    retrain(training=wild)
    assert not trained
    retrain(training=wild, retry_failed=True)
    assert len(trained) == 3
