"""Cells trained again, from end to end with tiny networks: files, continuing, refusing."""

import io
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tiny_cells import end_in_call
from tiny_runs import HERE, rows

from evonas.attacks import PGD
from evonas.audit import AuditRecords, FinalTraining, OodPrecision
from evonas.data import Dataset, Part, load_data
from evonas.data.out_of_distribution import load_ood_data
from evonas.errors import ConfigurationError, DataError, DivergedError, RunInUseError, StorageError
from evonas.evaluation import TrainFromScratch
from evonas.executors import ignore
from evonas.methods.cell_retraining import CellRetrainOptions, check_networks, retrain_cells
from evonas.methods.cell_search import FoundCells
from evonas.networks.darts import GENOTYPES
from evonas.runs import DataOptions, ExecutionOptions, Run, RunOptions
from evonas.runs.interrupt import Interrupted
from evonas.runs.screen import Pace
from evonas.spaces import DartsSpace
from evonas.training import CellTraining, Training, TrainingConfig
from evonas.types import Genome, Report, arch_id

SPACE = DartsSpace(channels=4, layers=3)
DATA = load_data("digits", train_limit=40, val_limit=20)
NOISE = load_ood_data("noise", DATA)
CANDIDATES = TrainFromScratch(SPACE, DATA, TrainingConfig(precision="fp32"))
AFTER = CellRetrainOptions(
    retrain=True,
    retrain_epochs=1,
    retrain_batch_size=20,
    cutout=8,
    retrain_precision="fp32",
    test_steps=1,
    test_limit=10,
)
FIRST, SECOND = (SPACE.canonical(genome) for genome in SPACE.sample(2, np.random.default_rng(1)))
FOUND = [
    FoundCells("e2rnas-v1 L0.5", SPACE.genotype(FIRST), 43_200.0),
    FoundCells("e2rnas-v1 L1", SPACE.genotype(SECOND), 864.0),
]
SEED = 5
PRECISION = OodPrecision(NOISE, SEED)


def retrain(
    out: Path,
    options: CellRetrainOptions = AFTER,
    found: Sequence[FoundCells] = FOUND,
    candidates: TrainFromScratch = CANDIDATES,
    retry_failed: bool = False,
    width: int = 200,
    execution: ExecutionOptions = HERE,
) -> str:
    """Text on the screen."""
    data = DataOptions(data="digits")
    given = RunOptions(data=data, seed=SEED, execution=execution, out=out, retry_failed=retry_failed)
    screen = io.StringIO()
    with Run.open("e2rnas-v1", given, console=Console(file=screen, width=width)) as run:
        retrain_cells(run, options, candidates, found, PRECISION)
    return screen.getvalue()


def table(out: Path) -> list[dict[str, str]]:
    return rows(out / "retrained" / "retrained.csv")


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "retrained" / "rows.jsonl").read_text().splitlines()]


def weights(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "retrained").glob("*.safetensors"))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both found cells and published ones, trained again without a break."""
    out = tmp_path_factory.mktemp("cells") / "whole"
    retrain(out, replace(AFTER, published=("DARTS_V2",)))
    return out


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copied"))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """(arch_id, channels) of every network whose training begins from now on."""
    found: list[tuple[str, int]] = []
    train = FinalTraining.train

    def counted(self: FinalTraining, genome: Genome, report: Report, checkpoint: Path | None) -> tuple[bytes, float]:
        found.append((arch_id(genome), self.space.channels))
        return train(self, genome, report, checkpoint)

    monkeypatch.setattr(FinalTraining, "train", counted)
    return found


@pytest.mark.lengthy
def test_every_network_has_its_row_and_its_weights(whole: Path) -> None:
    found = table(whole)
    assert [row["configuration"] for row in found] == ["e2rnas-v1 L0.5", "e2rnas-v1 L1", "DARTS_V2"]
    darts = SPACE.canonical(SPACE.from_genotype(GENOTYPES["DARTS_V2"]))
    for row, genome in zip(found, (FIRST, SECOND, darts), strict=True):
        params, macs = SPACE.cost(genome)
        assert (row["params"], row["macs"], row["channels"], row["layers"]) == (str(params), str(macs), "4", "3")
        assert (row["genome"], row["status"]) == (" ".join(map(str, genome.tolist())), "ok")
        assert float(row["paper_flops"]) > macs
        assert all(float(row[name]) in [n / 10 for n in range(11)] for name in ("clean_error", "pgd_error"))
        assert 0 < float(row["ood_aupr"]) <= 1
    assert [row["search_seconds"] for row in found] == ["43200.0", "864.0", ""]
    assert len(weights(whole)) == 3


@pytest.mark.lengthy
def test_the_table_says_what_its_numbers_are_of(whole: Path) -> None:
    page = (whole / "retrained" / "tables.md").read_text()
    head = "| Architecture | Test error % | Params | FLOPs | MACs | PGD acc. % | AUPR % | Search CPU days |"
    assert head in page
    assert page.index("| e2rnas-v1 L0.5-C4 |") < page.index("| e2rnas-v1 L1-C4 |") < page.index("| DARTS_V2-C4 |")
    for text in (
        "| 0.5 |",
        "| 0.01 |",
        "| - |",
        "on the 40 images of the train part: cutout 8, drop-path to 0.2, auxiliary head of weight",
        "on 10 test images",
        "PGD, linf 2/255, 1 steps of 5/255",
        "the last iterate counts",
        "AUPR: 2 test images of noise, the positive ones, among 10 of digits",
        "guessing gives 16.7%",
    ):
        assert text in page


@pytest.mark.lengthy
@pytest.mark.lengthy
def test_the_table_holds_what_the_network_has(whole: Path) -> None:
    """Everything again, by hand."""
    by_hand = FinalTraining(
        space=SPACE,
        data=DATA,
        training=TrainingConfig(epochs=1, batch_size=20, precision="fp32"),
        recipe=CellTraining(),
        cutout=8,
        seed=SEED,
    )
    expected, _ = by_hand.train(FIRST, ignore)
    assert weights(whole)[f"{arch_id(FIRST)}-{by_hand.digest[:8]}.safetensors"] == expected
    measured = AFTER.measured(PRECISION)
    tested = measured.tested(DATA, SEED)
    candidate = by_hand.candidate(FIRST, expected)
    row = table(whole)[0]
    for each in measured.measurements:
        for column, value in each.measure(candidate, tested, 250, ignore).items():
            assert float(row[column]) == value


@pytest.mark.lengthy
def test_stopped_between_networks_it_goes_on_bit_for_bit(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: list[tuple[str, int]]
) -> None:
    with monkeypatch.context() as patch:
        end_in_call(patch, FinalTraining, "train", 2)
        with pytest.raises(Interrupted):
            retrain(tmp_path)
    assert len(weights(tmp_path)) == 1
    assert not (tmp_path / "retrained" / "retrained.csv").exists()
    retrain(tmp_path)
    assert trained == [(arch_id(FIRST), 4), (arch_id(SECOND), 4)]  # the stopped one did not begin
    assert table(tmp_path) == table(whole)[:2]
    assert weights(tmp_path).items() < weights(whole).items()


LONGER = replace(AFTER, retrain_epochs=3)


@pytest.fixture(scope="module")
def longer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both found cells, trained again for three epochs without a break."""
    out = tmp_path_factory.mktemp("cells") / "longer"
    retrain(out, LONGER)
    return out


@pytest.mark.slow
def test_stopped_in_a_training_it_goes_on_with_its_epoch_bit_for_bit(
    longer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        end_in_call(patch, Training, "run_epoch", 3)
        with pytest.raises(Interrupted):
            retrain(tmp_path, LONGER)
    (checkpoint,) = (tmp_path / "retrained").glob("*.training.pt")
    (checkpoint.parent / f".{checkpoint.name}.1.tmp").touch()  # as a kill in the midst of writing leaves it
    assert epochs_of_continuing(tmp_path, monkeypatch) == [3, 1, 2, 3]
    assert table(tmp_path) == table(longer)
    assert weights(tmp_path) == weights(longer)
    assert not [path for path in checkpoint.parent.iterdir() if ".pt" in path.name]


def epochs_of_continuing(out: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The epochs that are trained from now on."""
    epochs: list[int] = []
    run_epoch = Training.run_epoch

    def counted(self: Training, *arguments: Any) -> float:
        loss = run_epoch(self, *arguments)
        epochs.append(self.epoch)
        return loss

    monkeypatch.setattr(Training, "run_epoch", counted)
    retrain(out, LONGER)
    return epochs


KILLED = """
import sys
from pathlib import Path
sys.path[:0] = {paths!r}
from test_cell_retraining import *
from evonas.training import checkpoints

pytestmark = pytest.mark.lengthy
out, save = Path({out!r}), checkpoints.save_checkpoint
def slow(path, identity, content):
    save(path, identity, content)
    if content["state"]["epoch"] == {epoch} and len(weights(out)) == {networks}:
        (out / "reached").touch()
        time.sleep(60)
checkpoints.save_checkpoint = slow
retrain(out, LONGER)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("networks", "epoch"), [(0, 2), (1, 1)])
def test_a_process_that_is_killed_has_lost_no_epoch(
    networks: int, epoch: int, longer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Path(__file__).parent
    code = KILLED.format(paths=[str(here), str(here.parent)], out=str(tmp_path), networks=networks, epoch=epoch)
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        deadline = time.monotonic() + 300
        while not (tmp_path / "reached").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert (tmp_path / "reached").exists()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert epochs_of_continuing(tmp_path, monkeypatch) == [1, 2, 3, 1, 2, 3][3 * networks + epoch :]
    assert table(tmp_path) == table(longer)
    assert weights(tmp_path) == weights(longer)


@pytest.mark.lengthy
def test_the_estimate_leaves_out_what_was_done_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one network's three epochs two are done before: only the third one took this process's time."""
    only = FOUND[:1]
    with monkeypatch.context() as patch:
        end_in_call(patch, Training, "run_epoch", 3)
        with pytest.raises(Interrupted):
            retrain(tmp_path, LONGER, only)
    seen: list[tuple[float, float]] = []
    words = Pace.words

    def watched(self: Pace, done: float) -> str:
        seen.append((self.before, done))
        return words(self, done)

    monkeypatch.setattr(Pace, "words", watched)
    retrain(tmp_path, LONGER, only)
    macs = SPACE.cost(FIRST).macs
    measurements = len(AFTER.measured(PRECISION).measurements)
    assert all(before == pytest.approx(2 * macs) for before, _ in seen)
    assert seen[0][1] == pytest.approx(2 * macs)
    assert seen[-1][1] == macs * (3 + measurements)


@pytest.mark.lengthy
def test_a_checkpoint_that_is_damaged_is_refused(whole: Path, tmp_path: Path) -> None:
    (name,) = (name for name in weights(whole) if name.startswith(arch_id(FIRST)))
    path = tmp_path / "retrained" / name.replace(".safetensors", ".training.pt")
    path.parent.mkdir()
    path.write_bytes(b"nothing")
    with pytest.raises(StorageError, match=r"expected a training of evonas in .*: .*; copy it there again, or move"):
        retrain(tmp_path)
    path.unlink()
    retrain(tmp_path, found=FOUND[:1])
    assert table(tmp_path) == table(whole)[:1]


@pytest.mark.lengthy
def test_what_is_asked_for_later_does_not_train_the_others_again(
    copied: Path, whole: Path, trained: list[tuple[str, int]]
) -> None:
    both = replace(AFTER, published=("DARTS_V2",))
    retrain(copied, replace(both, published=("DARTS_V2", "DARTS_V1")))
    assert table(copied)[:3] == table(whole)
    assert len(trained) == 1
    before = records(copied)
    retrain(copied, replace(both, test_steps=2))
    assert [record["kind"] for record in records(copied)[len(before) :]] == ["measured"] * 3
    assert all("pgd_error" in record["values"] for record in records(copied)[len(before) :])
    retrain(copied, replace(both, retrain_channels=6), FOUND[:1])
    assert [channels for _, channels in trained] == [4, 6, 6]
    retrain(copied, both)
    assert table(copied) == table(whole)
    assert len(trained) == 3


@pytest.mark.lengthy
def test_cells_that_two_searches_found_are_trained_once(tmp_path: Path, trained: list[tuple[str, int]]) -> None:
    again = FoundCells("e2rnas-v1 L2", FOUND[0].genotype, 1.0)
    retrain(tmp_path, found=[FOUND[0], again])
    assert len(trained) == 1
    first, second = table(tmp_path)
    assert (first.pop("configuration"), second.pop("configuration")) == ("e2rnas-v1 L0.5", "e2rnas-v1 L2")
    assert (first.pop("search_seconds"), second.pop("search_seconds")) == ("43200.0", "1.0")
    assert first == second


@pytest.mark.lengthy
def test_a_network_that_diverges_is_left_out_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = FinalTraining.train

    def diverges(self: FinalTraining, genome: Genome, *arguments: Any) -> tuple[bytes, float]:
        if arch_id(genome) == arch_id(FIRST):
            raise DivergedError("training diverged: the loss of epoch 1 is nan")
        return train(self, genome, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(FinalTraining, "train", diverges)
        assert "failed: training diverged" in retrain(tmp_path)
    assert [row["status"] for row in table(tmp_path)] == ["failed", "ok"]
    page = (tmp_path / "retrained" / "tables.md").read_text()
    assert "Left out, because training or scoring diverged: e2rnas-v1 L0.5-C4 (training diverged" in page
    retrain(tmp_path)
    assert [row["status"] for row in table(tmp_path)] == ["failed", "ok"]
    retrain(tmp_path, retry_failed=True)
    assert [row["status"] for row in table(tmp_path)] == ["ok", "ok"]


def test_every_network_has_the_width_that_comes_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the depth that was asked for; published cells of four nodes stand beside searched ones of two."""
    monkeypatch.setattr(FinalTraining, "train", lambda *arguments: (_ for _ in ()).throw(DivergedError("not now")))
    narrow = replace(SPACE, nodes=2)
    cells = FoundCells("two nodes", narrow.genotype(narrow.sample(1, np.random.default_rng(0))[0]))
    options = replace(AFTER, retrain_params=(0.1, 0.3), retrain_layers=4, published=("DARTS_V2", "PDARTS"))
    retrain(tmp_path, options, [cells], replace(CANDIDATES, space=narrow))
    assert [row["configuration"] for row in table(tmp_path)] == [
        name for name in ("two nodes", "DARTS_V2", "PDARTS") for _ in (0.1, 0.3)
    ]
    for place, row in enumerate(table(tmp_path)):  # of each cells the smaller network first
        nodes, wanted = (2, 4, 4)[place // 2], (100_000, 300_000)[place % 2]
        space, genome = DartsSpace(layers=4, nodes=nodes), np.array(row["genome"].split(), dtype=np.int64)
        width = int(row["channels"])
        apart = [abs(space.cost(genome, 10, each).params - wanted) for each in (width - 1, width, width + 1)]
        assert min(apart) == apart[1]
        assert int(row["params"]) == space.cost(genome, 10, width).params
    assert len({row["channels"] for row in table(tmp_path)}) > 1


def test_narrow_consoles_get_narrow_tables(copied: Path) -> None:
    text = retrain(copied, found=FOUND[:1], width=60)
    tables = [line for line in text.splitlines() if line.startswith(("┏", "│"))]
    assert sum(line.startswith("│ e2rnas-v1 L0.5-C4 │") for line in tables) == 2
    assert max(map(len, tables)) <= 60


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    with AuditRecords.opened(tmp_path / "retrained"), pytest.raises(RunInUseError):
        retrain(tmp_path)


SMALL = Part(NOISE.test.images[:, :, ::2, ::2], NOISE.test.labels)
HALF = replace(DATA, train=Part(DATA.train.images[:, :, ::2, ::2], DATA.train.labels))


@pytest.mark.parametrize(
    ("changed", "data", "ood_data", "error", "match"),
    [
        ({"test_limit": 9}, DATA, NOISE, DataError, "at least one image a class"),
        ({}, DATA, replace(NOISE, test=SMALL), DataError, "of the shape of the data's own"),
        ({}, DATA, DATA, DataError, "of another data set than digits"),
        ({"cutout": 32}, DATA, NOISE, ConfigurationError, "expected cutout < 32, the images' size, got 32"),
        ({}, HALF, NOISE, ConfigurationError, "expected images of 32 pixels for an auxiliary head, got 16; give --aux"),
        ({"retrain_layers": 2}, DATA, NOISE, ConfigurationError, "at least 3 layers"),
        ({"retrain_params": (1e7,)}, DATA, NOISE, ConfigurationError, "expected retrain_params <= 1,000,000"),
    ],
)
def test_what_would_stop_it_is_found_before(
    changed: dict[str, Any], data: Dataset, ood_data: Dataset, error: type[Exception], match: str
) -> None:
    check_networks(AFTER, SPACE, DATA, PRECISION)
    with pytest.raises(error, match=match):
        check_networks(replace(AFTER, **changed), SPACE, data, OodPrecision(ood_data, SEED))


def test_images_of_another_size_do_without_an_auxiliary_head() -> None:
    check_networks(replace(AFTER, auxiliary=0.0), SPACE, HALF, PRECISION)


@pytest.mark.lengthy
def test_cells_are_trained_on_all_images_but_the_test_parts_where_asked(tmp_path: Path) -> None:
    """40 and 20 images of the limited parts, and the 150 that adversarial sets are made from."""
    screen = retrain(tmp_path / "run", replace(AFTER, train_on="all"), FOUND[:1])
    assert "on the 210 images of the train, validation and adversarial parts" in " ".join(screen.split())
    (row,) = table(tmp_path / "run")
    assert (row["train_on"], row["status"]) == ("all", "ok")


def test_the_papers_settings_are_the_defaults() -> None:
    options = CellRetrainOptions(retrain=True, published=tuple(GENOTYPES))
    training = options.training("fp32")
    assert (training.epochs, training.batch_size, training.lr, training.weight_decay) == (600, 96, 0.025, 3e-4)
    assert (training.momentum, training.grad_clip, training.milestones, training.lr_decay) == (0.9, 5.0, (), 1.0)
    assert (options.recipe, options.cutout) == (CellTraining(auxiliary_weight=0.4, drop_path=0.2), 16)
    assert options.attack == PGD(epsilon=2 / 255, step_size=5 / 255, steps=10)
    assert not options.attack.random_start
