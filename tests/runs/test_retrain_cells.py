"""Cells trained again, from end to end with tiny networks: files, resuming, refusing."""

import csv
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from evonas.audit import CellRetraining, CellScoring, FrontNetwork, RetrainedRecords
from evonas.data import Dataset, Part, load_data
from evonas.data.out_of_distribution import load_ood_data
from evonas.errors import ConfigurationError, DataError, DivergedError, RunInUseError, StorageError, UnknownNameError
from evonas.evaluation import Evaluator, SliceSupernet, SupernetWeights, TrainFromScratch
from evonas.executors import ignore
from evonas.networks.darts import GENOTYPES
from evonas.objectives import CleanError, Objective, Params
from evonas.runs import RunFolder, retrain_checkpoint
from evonas.runs.cell_settings import CellRetrainSettings
from evonas.runs.interrupt import Interrupted, Interruption
from evonas.runs.retrain_cells import FoundCells, check_retraining_cells, others_for_retraining, retrain_cells
from evonas.runs.retrain_checkpoint import KeptTraining
from evonas.runs.retrain_screen import RetrainScreen
from evonas.runs.search import Plan
from evonas.search import EvolutionConfig
from evonas.spaces import DartsSpace, ShuffleSpace
from evonas.training import CellTraining, TrainingConfig
from evonas.types import Genome, Report, arch_id

SPACE = DartsSpace(channels=4, layers=3)
DATA = load_data("digits", train_limit=40, val_limit=20)
OTHERS = load_ood_data("noise", DATA)
OBJECTIVES: tuple[Objective, ...] = (CleanError(), Params())
PLAN = Plan(
    method="e2rnas-v1",
    space=SPACE,
    data_name="digits",
    n_classes=10,
    identity={},
    settings={},
    notes=(),
    evaluator=Evaluator(TrainFromScratch(SPACE, DATA, TrainingConfig(precision="fp32")), OBJECTIVES, 1),
    search=EvolutionConfig(population=2, generations=0, objectives=("clean_error", "params"), seed=5),
)
AFTER = CellRetrainSettings(
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


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Both found cells, trained again without a break."""
    folder = RunFolder(tmp_path_factory.mktemp("cells") / "whole")
    retrain(folder)
    return folder


def retrain(
    folder: RunFolder,
    settings: CellRetrainSettings = AFTER,
    found: Sequence[FoundCells] = FOUND,
    plan: Plan = PLAN,
    others: Dataset | None = None,
) -> str:
    screen = io.StringIO()
    retrain_cells(folder, plan, settings, found, others, Console(file=screen, width=200))
    return screen.getvalue()


def rows(folder: RunFolder) -> list[dict[str, str]]:
    with open(folder.path / "retrained" / "retrained.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k != "train_seconds"} for row in csv.DictReader(file)]


def files(folder: RunFolder, suffix: str) -> list[str]:
    return sorted(path.name for path in (folder.path / "retrained").glob(f"*{suffix}"))


def weights(folder: RunFolder) -> dict[str, bytes]:
    return {name: (folder.path / "retrained" / name).read_bytes() for name in files(folder, ".safetensors")}


def test_everything_at_once(folder: RunFolder) -> None:
    said = retrain(folder, replace(AFTER, against=("DARTS_V2",)), others=OTHERS)
    found = rows(folder)
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
    assert len(files(folder, ".safetensors")) == 3
    assert files(folder, "s.md") == ["tables.md"]
    page = (folder.path / "retrained" / "tables.md").read_text()
    head = "| Architecture | Test error % | Params M | FLOPs M | MACs M | PGD acc. % | AUPR % | Search CPU days |"
    assert head in page
    assert page.index("| e2rnas-v1 L0.5-C4 |") < page.index("| e2rnas-v1 L1-C4 |") < page.index("| DARTS_V2-C4 |")
    for text in (
        "| 0.5 |",
        "| 0.01 |",
        "| - |",
        "train part's 40 images: cutout 8, drop-path to 0.2, auxiliary head of weight",
        "on 10 test images",
        "PGD, linf 2/255, 1 steps of 5/255",
        "the last iterate counts",
        "AUPR: 2 test images of noise, the positive ones, among 10 of digits",
        "guessing gives 16.7%",
    ):
        assert text in page
    assert "training cells again (e2rnas-v1 L0.5, e2rnas-v1 L1, DARTS_V2): 1 epochs" in said
    assert "Cells trained again" in said


def test_the_table_holds_what_the_network_has(folder: RunFolder) -> None:
    """Everything again, by hand."""
    retrain(folder, found=FOUND[:1], others=OTHERS)
    (found,) = rows(folder)
    by_hand = CellRetraining(
        space=SPACE,
        data=DATA,
        training=TrainingConfig(epochs=1, batch_size=20, precision="fp32"),
        recipe=CellTraining(),
        cutout=8,
        seed=5,
    )
    expected, _ = by_hand.train(FIRST, ignore)
    assert list(weights(folder).values()) == [expected]
    scoring = CellScoring(attack=replace(CellScoring().attack, steps=1), others=OTHERS, test_limit=10)
    scores = scoring.score(by_hand, FIRST, expected, ignore)
    assert {key: float(found[key]) for key in scores} == scores


def test_a_run_that_is_stopped_goes_on_bit_for_bit(
    folder: RunFolder, whole: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []
    train = CellRetraining.train

    def counted(self: CellRetraining, genome: Genome, report: Report, *kept: Any) -> tuple[bytes, float]:
        trained.append(arch_id(genome))
        if len(trained) == 2:
            raise Interrupted(15)
        return train(self, genome, report, *kept)

    monkeypatch.setattr(CellRetraining, "train", counted)
    with pytest.raises(Interrupted):
        retrain(folder)
    assert not files(folder, ".csv")
    assert "1 left to do" in retrain(folder)
    assert trained == [arch_id(FIRST), arch_id(SECOND), arch_id(SECOND)]
    assert rows(folder) == rows(whole)
    assert weights(folder) == weights(whole)
    assert "0 left to do" in retrain(folder)
    assert len(trained) == 3


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
from test_retrain_cells import *
folder = RunFolder(Path({out!r}))
train = CellRetraining.train
def slow(self, genome, report, *kept):
    if list(folder.path.glob("retrained/*.safetensors")):
        (folder.path / "second").touch()
        time.sleep(60)
    return train(self, genome, report, *kept)
CellRetraining.train = slow
retrain(folder)
"""


def kill(code: str, folder: RunFolder, reached: str) -> None:
    """Run it, and end it when the file is there."""
    code = code.format(here=str(Path(__file__).parent), out=str(folder.path))
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        deadline = time.monotonic() + 100
        while not (folder.path / reached).exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert (folder.path / reached).exists()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_a_process_that_is_killed_between_networks_has_lost_nothing(folder: RunFolder, whole: RunFolder) -> None:
    kill(KILLED, folder, "second")
    assert "1 left to do" in retrain(folder)
    assert rows(folder) == rows(whole)
    assert weights(folder) == weights(whole)


KILLED_INSIDE = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
from test_retrain_cells import *
from evonas.runs import retrain_checkpoint
folder = RunFolder(Path({out!r}))
save = retrain_checkpoint.save_checkpoint
def slow(path, identity, content):
    save(path, identity, content)
    if content["training"]["epoch"] == 2:
        (folder.path / "epoch").touch()
        time.sleep(60)
retrain_checkpoint.save_checkpoint = slow
retrain(folder, LONGER)
"""
LONGER = replace(AFTER, retrain_epochs=3)


def test_a_network_that_is_killed_in_training_goes_on_with_its_epoch_bit_for_bit(
    folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken = RunFolder(tmp_path / "unbroken")
    retrain(unbroken, LONGER)
    kill(KILLED_INSIDE, folder, "epoch")
    (path,) = (folder.path / "retrained").glob("*.training.pt")
    (path.parent / f".{path.name}.1.tmp").touch()
    epochs: list[int] = []
    save = retrain_checkpoint.save_checkpoint

    def counted(path: Path, identity: Any, content: Any) -> None:
        epochs.append(content["training"]["epoch"])
        save(path, identity, content)

    monkeypatch.setattr(retrain_checkpoint, "save_checkpoint", counted)
    said = retrain(folder, LONGER)
    assert "MACs, continued after 66.7% of its training" in said
    assert epochs == [3, 1, 2, 3]
    assert rows(folder) == rows(unbroken)
    assert weights(folder) == weights(unbroken)
    assert not [each for each in path.parent.iterdir() if ".pt" in each.name]


def test_the_estimate_leaves_out_what_was_done_before(tmp_path: Path) -> None:
    """Two networks alike, half of the first done before: a quarter of it in 10 s leaves one and a quarter, in 50 s."""
    base = CellRetraining(
        space=SPACE, data=DATA, training=AFTER.training("fp32"), recipe=AFTER.recipe, cutout=AFTER.cutout, seed=5
    )
    network = FrontNetwork("one", FIRST, KeptTraining(base, tmp_path))
    screen = RetrainScreen(Console(file=io.StringIO()), Interruption(), [network, network])
    with screen.showing(network, before=0.5):
        screen.started = time.monotonic() - 10
        assert screen.seconds_left(0.75) == pytest.approx(50, rel=0.05)


def test_a_checkpoint_that_is_damaged_is_refused(folder: RunFolder) -> None:
    (folder.path / "retrained").mkdir(parents=True)
    base = CellRetraining(
        space=SPACE, data=DATA, training=AFTER.training("fp32"), recipe=AFTER.recipe, cutout=AFTER.cutout, seed=5
    )
    path = KeptTraining(base, folder.path / "retrained").path(FIRST)
    path.write_bytes(b"nothing")
    with pytest.raises(StorageError, match=r"expected a training of cells of evonas in .* got another or a damaged"):
        retrain(folder)
    path.unlink()
    retrain(folder, found=FOUND[:1])


def test_what_is_added_later_does_not_train_the_others_again(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    retrain(folder, found=FOUND[:1])
    before = rows(folder)
    trained: list[int] = []
    train = CellRetraining.train

    def counted(self: CellRetraining, genome: Genome, report: Report, *kept: Any) -> tuple[bytes, float]:
        trained.append(self.space.channels)
        return train(self, genome, report, *kept)

    monkeypatch.setattr(CellRetraining, "train", counted)
    retrain(folder, replace(AFTER, against=("DARTS_V1",)), FOUND[:1])
    assert rows(folder)[:1] == before
    assert trained == [4]
    retrain(folder, found=FOUND[:1], others=OTHERS)  # scored again
    assert rows(folder)[0]["ood_aupr"]
    assert trained == [4]
    retrain(folder, replace(AFTER, retrain_channels=6), FOUND[:1])
    assert trained == [4, 6]
    retrain(folder, found=FOUND[:1])
    assert rows(folder) == before
    assert trained == [4, 6]


def test_cells_that_two_searches_found_are_trained_once(folder: RunFolder) -> None:
    again = FoundCells("e2rnas-v1 L2", FOUND[0].genotype, 1.0)
    assert "1 left to do" in retrain(folder, found=[FOUND[0], again])
    first, second = rows(folder)
    assert (first.pop("configuration"), second.pop("configuration")) == ("e2rnas-v1 L0.5", "e2rnas-v1 L2")
    assert (first.pop("search_seconds"), second.pop("search_seconds")) == ("43200.0", "1.0")
    assert first == second


def test_a_network_that_diverges_is_left_out_and_said(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    train = CellRetraining.train

    def diverges(self: CellRetraining, genome: Genome, report: Report, *kept: Any) -> tuple[bytes, float]:
        if arch_id(genome) == arch_id(FIRST):
            raise DivergedError("training diverged: the loss of epoch 1 is nan")
        return train(self, genome, report, *kept)

    monkeypatch.setattr(CellRetraining, "train", diverges)
    said = retrain(folder)
    assert "failed: training diverged" in said
    assert [row["status"] for row in rows(folder)] == ["failed", "ok"]
    assert "Left out, because training or scoring diverged: e2rnas-v1 L0.5-C4 (training diverged" in said
    monkeypatch.setattr(CellRetraining, "train", train)
    assert "0 left to do" in retrain(folder)
    retrain(folder, plan=replace(PLAN, retry_failed=True))
    assert [row["status"] for row in rows(folder)] == ["ok", "ok"]


def test_every_network_has_the_width_that_comes_nearest(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the depth that was asked for; published cells of four nodes stand beside searched ones of two."""
    monkeypatch.setattr(CellRetraining, "train", lambda *arguments: (_ for _ in ()).throw(DivergedError("not now")))
    narrow = replace(SPACE, nodes=2)
    cells = FoundCells("two nodes", narrow.genotype(narrow.sample(1, np.random.default_rng(0))[0]))
    plan = replace(PLAN, space=narrow)
    settings = replace(AFTER, retrain_params=0.1, retrain_layers=4, against=("DARTS_V2", "PDARTS"))
    retrain(folder, settings, [cells], plan)
    for row, nodes in zip(rows(folder), (2, 4, 4), strict=True):
        space, genome = DartsSpace(layers=4, nodes=nodes), np.array(row["genome"].split(), dtype=np.int64)
        width = int(row["channels"])
        apart = [abs(space.cost(genome, 10, each).params - 100_000) for each in (width - 1, width, width + 1)]
        assert min(apart) == apart[1]
        assert int(row["params"]) == space.cost(genome, 10, width).params
    assert len({row["channels"] for row in rows(folder)}) > 1


def test_narrow_consoles_get_narrow_tables(folder: RunFolder) -> None:
    screen = io.StringIO()
    retrain_cells(folder, PLAN, AFTER, FOUND[:1], OTHERS, Console(file=screen, width=60))
    tables = [line for line in screen.getvalue().splitlines() if line.startswith(("┏", "│"))]
    assert sum(line.startswith("│ e2rnas-v1 L0.5-C4 │") for line in tables) == 2
    assert max(map(len, tables)) <= 60


def test_a_second_process_is_refused(folder: RunFolder) -> None:
    with RetrainedRecords.opened(folder.path / "retrained"), pytest.raises(RunInUseError):
        retrain(folder)


def test_another_search_is_refused(folder: RunFolder) -> None:
    sliced = SliceSupernet(space=ShuffleSpace(), data=DATA, weights=SupernetWeights({}))
    with pytest.raises(ConfigurationError, match="expected a search of cells that trains its networks, got Slice"):
        retrain(folder, plan=replace(PLAN, evaluator=replace(PLAN.evaluator, prepare=sliced)))


SMALL = Part(OTHERS.test.images[:, :, ::2, ::2], OTHERS.test.labels)
HALF = replace(DATA, train=Part(DATA.train.images[:, :, ::2, ::2], DATA.train.labels))


@pytest.mark.parametrize(
    ("changed", "data", "others", "error", "match"),
    [
        ({"test_limit": 9}, DATA, None, DataError, "at least one image a class"),
        ({}, DATA, replace(OTHERS, test=SMALL), DataError, "of the shape of the data's own"),
        ({}, DATA, DATA, DataError, "of another data set than digits"),
        ({"cutout": 32}, DATA, None, ConfigurationError, "expected cutout < 32, the images' size, got 32"),
        ({}, HALF, None, ConfigurationError, "expected images of 32 pixels for an auxiliary head, got 16; give --aux"),
        ({"retrain_layers": 2}, DATA, None, ConfigurationError, "at least 3 layers"),
        ({"retrain_params": 1e7}, DATA, None, ConfigurationError, "expected a number of parameters > 0 and <= 1e"),
    ],
)
def test_what_would_stop_it_is_found_before(
    changed: dict[str, Any], data: Dataset, others: Dataset | None, error: type[Exception], match: str
) -> None:
    check_retraining_cells(AFTER, SPACE, DATA, OTHERS, 5)
    with pytest.raises(error, match=match):
        check_retraining_cells(replace(AFTER, **changed), SPACE, data, others, 5)


def test_images_of_another_size_do_without_an_auxiliary_head() -> None:
    check_retraining_cells(replace(AFTER, auxiliary=0.0), SPACE, HALF, None, 5)


def test_others_are_the_searchs_or_loaded(tmp_path: Path) -> None:
    assert others_for_retraining("auto", DATA, tmp_path, 5, OTHERS) == (OTHERS, "")
    loaded, note = others_for_retraining("auto", DATA, tmp_path, 5)
    assert (loaded.name, note) == (
        "noise",
        f"out-of-distribution images: smooth noise, because no other data set is below {tmp_path}",
    )
    with pytest.raises(ConfigurationError, match="of other classes than those of digits, got mnist"):
        others_for_retraining("mnist", DATA, tmp_path, 5)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"against": ("DARTS_V3",), "retrain": True}, UnknownNameError, "unknown published cells 'DARTS_V3'; known"),
        ({"against": ("PDARTS", "PDARTS"), "retrain": True}, ConfigurationError, "every one of --against once"),
        ({"against": ("PDARTS",)}, ConfigurationError, "expected --retrain with --against, got --against PDARTS alone"),
        ({"retrain_channels": 36, "retrain_params": 2.0}, ConfigurationError, "got both: 36 and 2.0"),
        ({"retrain_channels": 0}, ConfigurationError, "retrain_channels >= 1, got 0"),
        ({"retrain_layers": 0}, ConfigurationError, "retrain_layers >= 1"),
        ({"retrain_params": 0.0}, ConfigurationError, "retrain_params > 0"),
        ({"retrain_epochs": 0}, ConfigurationError, "retrain_epochs >= 1"),
        ({"retrain_batch_size": 0}, ConfigurationError, "retrain_batch_size >= 1"),
        ({"retrain_lr": 0.0}, ConfigurationError, "retrain_lr > 0"),
        ({"retrain_weight_decay": -1.0}, ConfigurationError, "weight_decay >= 0"),
        ({"retrain_precision": "fp8"}, ConfigurationError, "expected a precision"),
        ({"auxiliary": -1.0}, ConfigurationError, "auxiliary >= 0"),
        ({"drop_path": 1.0}, ConfigurationError, "drop_path in"),
        ({"cutout": -1}, ConfigurationError, "cutout >= 0"),
        ({"test_epsilon": 0.0}, ConfigurationError, "test_epsilon > 0"),
        ({"test_steps": 0}, ConfigurationError, "test_steps > 0"),
        ({"test_step_size": float("inf")}, ConfigurationError, "test_step_size > 0"),
        ({"test_limit": 0}, ConfigurationError, "test_limit >= 1"),
    ],
)
def test_senseless_settings_are_refused(options: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        CellRetrainSettings(**options)


def test_the_papers_settings_are_the_defaults() -> None:
    settings = CellRetrainSettings()
    training = settings.training("fp32")
    assert (training.epochs, training.batch_size, training.lr, training.weight_decay) == (600, 96, 0.025, 3e-4)
    assert (training.momentum, training.grad_clip, training.milestones, training.lr_decay) == (0.9, 5.0, (), 1.0)
    assert (settings.recipe, settings.cutout) == (CellTraining(auxiliary_weight=0.4, drop_path=0.2), 16)
    assert settings.attack == CellScoring().attack
    CellRetrainSettings(retrain=True, against=tuple(GENOTYPES))
