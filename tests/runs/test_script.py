"""`evonas.run_search`: a whole run in one call, with a space, images, an objective and a recipe of one's own."""

import io
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from own_parts import Confidence, Widths, smoothed
from rich.console import Console
from tiny_runs import HERE, config, contents, journal, rows

import evonas
from evonas.data import Dataset, load_data
from evonas.errors import ConfigurationError, EvonasError, RunInUseError, RunMismatchError
from evonas.evaluation import TrainFromScratch
from evonas.objectives import CleanError, Column, Macs, Timed
from evonas.runs import AuditOptions, Result, RunFolder
from evonas.search import EvolutionConfig
from evonas.training import Training, TrainingConfig

pytestmark = [pytest.mark.lengthy, pytest.mark.usefixtures("no_pictures")]

SEARCH = EvolutionConfig(population=4, generations=1)
TRAINING = TrainingConfig(epochs=4, batch_size=10, lr=0.05, precision="fp32")


@dataclass(frozen=True)
class Halves:
    """A column whose name ends as those of times do."""

    name: ClassVar[str] = "half_seconds"

    def columns(self, space: Any, n_classes: int) -> tuple[Column, ...]:
        return (Column(self.name, reference=1.0),)

    def __call__(self, candidate: Any) -> dict[str, float]:
        return {self.name: 0.5}


@pytest.fixture(scope="module")
def data() -> Dataset:
    """A few digits, given as arrays."""
    digits = load_data("digits")
    arrays = (
        digits.train.images[:300, 0],
        digits.train.labels[:300],
        digits.test.images[:60, 0],
        digits.test.labels[:60],
    )
    return Dataset.from_arrays(*arrays, name="mine", val_limit=50)


def search(data: Dataset, out: Path, objectives: Sequence[Any] = ("clean_error", "macs"), **more: Any) -> Result:
    given: dict[str, Any] = {"training": TRAINING, "search": SEARCH, "execution": HERE, **more}
    console, space = Console(file=io.StringIO()), Widths(data.train.images.shape[-1])
    result: Result = evonas.run_search(space, data, objectives, out=out, console=console, **given)
    return result


@pytest.fixture(scope="module")
def found(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Result:
    return search(data, tmp_path_factory.mktemp("own") / "run")


def copy_run(source: Path, target: Path) -> Path:
    return Path(shutil.copytree(source, target))


COLUMNS = [
    *("arch_id", "generation", "rank", "status", "clean_error", "params", "macs"),
    *("train_seconds", "seed", "method", "data", "genome"),
]


class TestResult:
    def test_tables_are_those_in_the_folder(self, found: Result) -> None:
        table = rows(found.path / "population.csv")
        assert list(found.population.columns) == list(found.front.columns) == COLUMNS
        for name in ("arch_id", "genome", "method", "data"):
            assert list(found.population[name]) == [row[name] for row in table]
        assert {(row["method"], row["data"]) for row in table} == {("search", "mine")}
        assert list(found.front["arch_id"]) == [row["arch_id"] for row in rows(found.path / "front.csv")]
        assert {*found.front["rank"]} == {0}
        assert len(found.population) == len(found.entries) == len(journal(found.path)) - 1 > 4
        errors = found.population["clean_error"]
        assert errors.min() < 0.7 < 0.9  # something was learned, so equality of values says something
        assert len({*errors}) > 1

    def test_a_picture_of_the_front(self, found: Result, tmp_path: Path) -> None:
        path = found.plot(tmp_path / "mine.png")
        assert path == tmp_path / "mine.png"
        assert path.read_bytes().startswith(b"\x89PNG")

    def test_a_loaded_network_has_the_recorded_error(self, found: Result, data: Dataset) -> None:
        row = found.front.iloc[0]
        network, best = found.load(row["arch_id"]), found.load()
        assert not network.training
        images = torch.from_numpy(data.validation.images).float() / 255
        with torch.no_grad():
            logits, again = network(images), best(images)
        wrong = logits.argmax(dim=1).numpy() != data.validation.labels
        assert wrong.mean() == row["clean_error"]
        assert torch.equal(logits, again)

    def test_a_row_that_is_not_there_is_refused(self, found: Result) -> None:
        with pytest.raises(EvonasError, match=r"expected the arch_id of a row with status ok, .* got 'nothing'"):
            found.load("nothing")

    def test_everything_is_found_again(self, found: Result) -> None:
        before = contents(found.path)
        found.verify()
        found.verify("best", str(found.population["arch_id"].iloc[-1]))
        assert contents(found.path) == before

    def test_a_wrong_record_is_not_found_again(self, found: Result) -> None:
        entry = found.entries[0]
        for name, place in (("clean_error", entry.key), ("params", "")):
            values = {**entry.result.objectives, name: entry.result.objectives[name] + 1}
            liar = Result(found.folder, found.searched, lambda: found.evaluator)
            changed = replace(entry, result=replace(entry.result, objectives=values))
            liar.__dict__["entries"] = [changed, *found.entries[1:]]
            with pytest.raises(ConfigurationError, match="1 recorded values were not found again") as refused:
                liar.verify(*filter(None, [place]))
            assert entry.key in str(refused.value)

    def test_a_column_of_one_s_own_is_found_again_whatever_it_is_called(self, found: Result) -> None:
        """Columns that end in _seconds repeat, but for those of `Timed`."""
        more: tuple[Any, ...] = (Timed(Macs()), Halves())
        evaluator = replace(found.evaluator, objectives=(*found.evaluator.objectives, *more))
        liar, entry = Result(found.folder, found.searched, lambda: evaluator), found.entries[0]
        values = {**entry.result.objectives, "macs_seconds": 1e6, "half_seconds": 0.25}
        liar.__dict__["entries"] = [replace(entry, result=replace(entry.result, objectives=values))]
        with pytest.raises(ConfigurationError, match=r"1 recorded values .* half_seconds 0.25 recorded, 0.5 now"):
            liar.verify(entry.key)


class TestTheSameCall:
    def test_it_evaluates_nothing_again(self, found: Result, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
        before = journal(found.path)
        monkeypatch.setattr(TrainFromScratch, "start", None)
        again = search(data, found.path)
        assert journal(found.path) == before
        assert again.front.equals(found.front)

    def test_it_gives_the_same_journal_elsewhere(self, found: Result, data: Dataset, tmp_path: Path) -> None:
        short = search(data, tmp_path / "run", search=replace(SEARCH, generations=0))
        assert journal(tmp_path / "run") == journal(found.path)[: 1 + len(short.entries)]

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"seed": 1}, "seed is 0 there, 1 here"),
            ({"training": replace(TRAINING, epochs=2)}, "training.epochs is 4 there, 2 here"),
            ({"recipe": smoothed}, "training.recipe is standard there, smoothed here"),
            ({"objectives": ("clean_error", "params")}, "objectives is"),
            ({"objectives": ("clean_error", Confidence())}, "objectives.confidence"),
            ({"search": replace(SEARCH, algorithm="nsga3")}, "search.algorithm is nsga2 there, nsga3 here"),
        ],
    )
    def test_another_one_is_refused(self, found: Result, data: Dataset, change: dict[str, Any], named: str) -> None:
        before = contents(found.path)
        with pytest.raises(RunMismatchError) as refused:
            search(data, found.path, **change)
        assert named in str(refused.value)
        assert contents(found.path) == before

    def test_other_images_are_refused(self, found: Result, data: Dataset) -> None:
        other = load_data("digits", train_limit=150, val_limit=50)
        with pytest.raises(RunMismatchError, match=r"data\.name is mine there, digits here"):
            search(other, found.path)

    def test_a_second_process_is_refused_while_the_first_one_runs(self, found: Result, data: Dataset) -> None:
        with RunFolder(found.path).locked(), pytest.raises(RunInUseError, match="another process"):
            search(data, found.path)


class TestOwnParts:
    def test_an_objective_is_searched_and_its_description_kept(self, data: Dataset, tmp_path: Path) -> None:
        objectives = (CleanError(batch_size=20), Confidence(images=20), "macs")
        found = search(data, tmp_path / "run", objectives, search=replace(SEARCH, generations=0), recipe=smoothed)
        identity = config(found.path)["identity"]
        assert identity["search"]["objectives"] == ["clean_error", "confidence", "macs"]
        assert identity["search"]["maximize"] == ["confidence"]
        assert identity["objectives"]["confidence"] == {"images": 20}
        assert identity["training"]["recipe"] == "smoothed"
        assert config(found.path)["measured"]["confidence"]["about"] == "mean over 20 images"
        assert found.front["confidence"].max() == found.population["confidence"].max()
        found.verify("best")
        with pytest.raises(RunMismatchError, match=r"objectives\.confidence\.images is 20 there, 10 here"):
            search(data, found.path, (objectives[0], Confidence(images=10), "macs"), recipe=smoothed)

    def test_images_of_another_size(self, tmp_path: Path) -> None:
        drawn = np.random.default_rng(0).integers(256, size=(60, 16, 16), dtype=np.uint8)
        labels = np.arange(60) % 3
        data = Dataset.from_arrays(drawn, labels, drawn[:9], labels[:9], name="noise")
        found = search(data, tmp_path / "run", search=EvolutionConfig(population=2, generations=0))
        assert [entry.result.status for entry in found.entries] == ["ok", "ok"]
        assert found.load()(torch.rand(2, 3, 16, 16)).shape == (2, 3)

    def test_a_lambda_has_no_identity(self, data: Dataset, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="write it with def"):
            search(data, tmp_path / "run", recipe=lambda *arguments: smoothed(*arguments))
        assert not (tmp_path / "run").exists()


class TestAudit:
    OPTIONS = AuditOptions(audit=("clean", "fgsm2"), audit_top=2, audit_epochs=1, audit_images=30)

    def test_the_lightest_of_the_front_are_trained_and_measured(
        self, found: Result, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        copied = copy_run(found.path, tmp_path / "copied")
        search(data, copied, audit=self.OPTIONS)
        table = rows(copied / "audit.csv")
        lightest = found.front.sort_values("macs")["arch_id"][:2]
        assert [row["arch_id"] for row in table] == list(lightest)
        for row in table:
            assert (row["status"], row["epochs"]) == ("ok", "1")
            errors = float(row["clean_error"]), float(row["fgsm_error"])
            assert all((30 * error).is_integer() for error in errors)
            assert errors[1] >= errors[0]
        assert len(list((copied / "trained").glob("*.safetensors"))) == 2
        before = contents(copied)
        monkeypatch.setattr(Training, "run_epoch", None)
        search(data, copied, audit=self.OPTIONS)
        assert contents(copied) == before
        search(data, copied, audit=replace(self.OPTIONS, audit=("clean",), audit_top=1))
        fewer = rows(copied / "audit.csv")  # what was measured before stays, of this network and of others
        assert [row["clean_error"] for row in fewer] == [row["clean_error"] for row in table]
        assert [row["fgsm_error"] for row in fewer] == [row["fgsm_error"] for row in table]

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (AuditOptions(audit=("magic",)), "'magic'"),
            (AuditOptions(audit_images=5), "at least one image a class"),
            (AuditOptions(audit=("cw60",)), "expected foolbox"),
        ],
    )
    def test_what_would_stop_it_is_told_before_the_search(
        self, options: AuditOptions, said: str, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "foolbox", None)  # importing it fails, as where it is not installed
        with pytest.raises(EvonasError, match=said):
            search(data, tmp_path / "run", audit=options)
        assert not (tmp_path / "run").exists()


def test_an_opened_run_of_a_script_has_tables_and_no_networks(found: Result) -> None:
    """Nobody but the script has its space and its images, unless files give them."""
    opened = evonas.open_run(found.path)
    assert opened.front.equals(found.front)
    assert opened.plot(found.path / "again.png").exists()
    (found.path / "again.png").unlink()
    with pytest.raises(ConfigurationError, match="the space 'widths' of a script in a file after --plugin; or give"):
        opened.load()


def test_a_name_that_evonas_has_not_is_an_attribute_error() -> None:
    assert evonas.Run.__name__ == "Run"
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        evonas.nothing  # noqa: B018
