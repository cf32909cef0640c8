"""A front trained to the end, from end to end with tiny networks: files, resuming, refusing."""

import csv
import io
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from evonas.attacks import PGD
from evonas.audit import Finalising, HandmadeSpace, PGDGrid, lego_genome
from evonas.data import load_data
from evonas.errors import ConfigurationError, DataError, DivergedError, RunInUseError, UnknownNameError
from evonas.evaluation import Evaluator, SliceSupernet, SupernetWeights, TrainFromScratch
from evonas.networks.blocks import seeded
from evonas.objectives import CleanError, Objective, Params, PGDError
from evonas.runs import RunFolder
from evonas.runs.finalise import FinaliseSettings, check_finalising, finalise_front
from evonas.runs.interrupt import Interrupted
from evonas.runs.search import Plan
from evonas.search import Entry, EvolutionConfig, Journal
from evonas.spaces import ShuffleSpace
from evonas.training import TrainingConfig
from evonas.types import EvaluationResult, Genome, Report, arch_id

SPACE = ShuffleSpace(width=1 / 3, depth=0.3)
DATA = load_data("digits", train_limit=40, val_limit=20)
WEIGHTS = SupernetWeights.of(seeded(lambda: SPACE.supernet(10), 1))
OBJECTIVES: tuple[Objective, ...] = (CleanError(), PGDError(attack=PGD(steps=2, stop_when_fooled=True)), Params())
PLAN = Plan(
    method="tam-nas",
    space=SPACE,
    data_name="digits",
    n_classes=10,
    identity={},
    settings={},
    notes=(),
    evaluator=Evaluator(SliceSupernet(space=SPACE, data=DATA, weights=WEIGHTS), OBJECTIVES, 1),
    search=EvolutionConfig(population=4, generations=0, objectives=("clean_error", "pgd_error", "params"), seed=5),
)
AFTER = FinaliseSettings(
    finalise="scratch",
    finalise_epochs=1,
    finalise_batch_size=20,
    finalise_m=1,
    finalise_n=1,
    test_epsilons=(4, 8),
    test_steps=(1, 2),
    test_limit=10,
    handmade_width=0.03,
    handmade_steps=(2, 3),
    finalise_precision="fp32",
)

DOMINATED, *GENOMES = sorted(
    (SPACE.canonical(genome) for genome in SPACE.sample(5, np.random.default_rng(1))),
    key=lambda genome: -SPACE.cost(genome).params,
)
SCORES = [(0.4, 0.6), (0.5, 0.5), (0.6, 0.7), (0.7, 0.8)]
"""(clean, PGD) errors of networks that get smaller. Sums of ranks: 0 + 1, 1 + 0, 2 + 2, 3 + 3."""
ORDER = [*sorted(map(arch_id, GENOMES[:2])), *map(arch_id, GENOMES[2:])]
FIRST = next(genome for genome in GENOMES if arch_id(genome) == ORDER[0])


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    with Journal(tmp_path / "journal.jsonl", {}, sync=False) as journal:
        found = zip([*GENOMES[::-1], DOMINATED], [*SCORES[::-1], (0.7, 0.9)], strict=True)
        for number, (genome, (clean, pgd)) in enumerate(found):
            values = {"clean_error": clean, "pgd_error": pgd, "params": SPACE.cost(genome).params}
            journal.append(Entry(EvaluationResult(tuple(genome.tolist()), values), 0, number))
    return RunFolder(tmp_path)


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than all the rest."""
    monkeypatch.setattr("evonas.runs.finalise.plot_layers", lambda *arguments: None)


def finalise(folder: RunFolder, settings: FinaliseSettings = AFTER, plan: Plan = PLAN) -> str:
    screen = io.StringIO()
    finalise_front(folder, plan, settings, WEIGHTS, Console(file=screen, width=200))
    return screen.getvalue()


def rows(folder: RunFolder) -> list[dict[str, str]]:
    with open(folder.path / "finalised" / "finalised.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k != "train_seconds"} for row in csv.DictReader(file)]


def files(folder: RunFolder, suffix: str) -> list[str]:
    return sorted(path.name for path in (folder.path / "finalised").glob(f"*{suffix}"))


def test_everything_at_once(folder: RunFolder) -> None:
    settings = replace(AFTER, finalise="both", finalise_top=1, lego=True, handmade=("ShuffleNetV2", "ResNet-18"))
    said = finalise(folder, settings)
    found = rows(folder)
    names = [*ORDER[:1] * 2, "Lego-Net", "Lego-Net", "ShuffleNetV2-x0.03", "ResNet-18-x0.03"]
    modes = ["scratch", "finetune"] * 2 + ["scratch"] * 2
    assert [(row["name"], row["mode"]) for row in found] == list(zip(names, modes, strict=True))
    columns = ["clean_error", *(f"pgd{steps}_{epsilon}_error" for steps in (1, 2) for epsilon in (4, 8))]
    table_x = ["pgd2_8_error", "pgd3_8_error", "pgd3_2_error"]
    assert set(list(found[0])[4:-7]) >= {*columns, *table_x}
    assert all(float(row[name]) in [n / 10 for n in range(11)] for row in found for name in (*columns, *table_x))
    assert found[2]["genome"] == " ".join(map(str, lego_genome(SPACE, GENOMES).tolist()))
    assert [row["paper_params"] for row in found] == [""] * 4 + ["4820000.0", "11170000.0"]
    assert found[0]["params"] == str(SPACE.cost(FIRST).params)
    assert files(folder, ".png") == ["layer_statistics.png"]
    assert files(folder, ".csv") == ["finalised.csv", "layer_statistics.csv"]
    assert len(files(folder, ".safetensors")) == 6
    page = (folder.path / "finalised" / "tables.md").read_text()
    assert "| Network | Mode | Params | Clean | P1 4/255 | P1 8/255 | P2 4/255 | P2 8/255 |" in page
    assert "| Network | Mode | Params | Clean | P2 8/255 | P3 8/255 | P3 2/255 |" in page
    assert "| scratch | clean | clean | 1 | none: fewer than 3 networks | - |" in page
    assert "10 test images" in page
    assert "the last iterate counts" in page
    assert "Table X says 11.17M" in page
    for title in ("Table II", "Table X", "Rank agreement", "Figures 8 and 9"):
        assert title in said
        assert title in page


def test_the_tables_hold_what_the_network_has(folder: RunFolder, no_pictures: None) -> None:
    """Everything again, by hand."""
    finalise(folder, replace(AFTER, finalise_top=1))
    (found,) = rows(folder)
    by_hand = Finalising(space=SPACE, data=DATA, training=AFTER.training("fp32"), recipe=AFTER.recipe(), seed=5)
    weights, _ = by_hand.train(FIRST, lambda progress: None)
    (name,) = files(folder, ".safetensors")
    assert (folder.path / "finalised" / name).read_bytes() == weights
    scores = PGDGrid(attacks=((1, 4), (1, 8), (2, 4), (2, 8)), test_limit=10).score(
        by_hand, FIRST, weights, lambda progress: None
    )
    assert {key: float(found[key]) for key in scores} == scores
    page = (folder.path / "finalised" / "tables.md").read_text()
    assert (
        f"| {ORDER[0]} | scratch | {SPACE.cost(FIRST).params / 1e6:.4f}M | "
        + " | ".join(f"{100 * (1 - value):.2f}" for value in scores.values())
        in page
    )


def test_the_rank_agreement_is_of_inherited_and_final_errors(
    folder: RunFolder, no_pictures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Final clean errors in the order of the inherited ones, PGD errors in the opposite one; closest is P2 8/255."""
    final = {tuple(genome.tolist()): scores for genome, scores in zip(GENOMES, SCORES, strict=True)}

    def score(grid: PGDGrid, way: Finalising, genome: Genome, weights: bytes, report: Report) -> dict[str, float]:
        clean, pgd = final[tuple(genome.tolist())]
        return {"clean_error": clean / 2, **dict.fromkeys(grid.columns, 0.5), "pgd2_8_error": 1 - pgd / 2}

    monkeypatch.setattr(PGDGrid, "score", score)
    finalise(folder)
    page = (folder.path / "finalised" / "tables.md").read_text()
    assert "| scratch | clean | clean | 4 | +1.000 | 0.0833 |" in page
    assert "| scratch | PGD, linf 8/255, 2 steps, any iterate | P2 8/255 | 4 | -1.000 | 0.0833 |" in page


def test_a_run_that_is_stopped_goes_on_bit_for_bit(
    folder: RunFolder, tmp_path: Path, no_pictures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = RunFolder(tmp_path / "whole")
    whole.path.mkdir()
    shutil.copy(folder.journal, whole.journal)
    settings = replace(AFTER, finalise_top=2, finalise="both")
    finalise(whole, settings)
    trained: list[tuple[str, str]] = []
    train = Finalising.train

    def counted(self: Finalising, genome: Genome, report: Report) -> tuple[bytes, float]:
        trained.append((arch_id(genome), self.mode))
        if len(trained) == 3:
            raise Interrupted(15)
        return train(self, genome, report)

    monkeypatch.setattr(Finalising, "train", counted)
    with pytest.raises(Interrupted):
        finalise(folder, settings)
    assert not files(folder, "finalised.csv")
    assert "2 left to do" in finalise(folder, settings)
    wanted = [(name, mode) for name in ORDER[:2] for mode in ("scratch", "finetune")]
    assert trained == [*wanted[:3], *wanted[2:]]  # the first two not again
    assert rows(folder) == rows(whole)
    weights = [
        [(each.path / "finalised" / name).read_bytes() for name in files(each, ".safetensors")]
        for each in (folder, whole)
    ]
    assert weights[0] == weights[1]
    assert len(weights[0]) == 4
    assert "0 left to do" in finalise(folder, settings)
    assert len(trained) == 5


def test_what_is_added_later_does_not_train_or_score_the_others_again(
    folder: RunFolder, no_pictures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = replace(AFTER, finalise_top=1)
    finalise(folder, before)
    steps: list[tuple[str, int]] = []
    train, score = Finalising.train, PGDGrid.score

    def counted(self: Finalising, genome: Genome, report: Report) -> tuple[bytes, float]:
        steps.append((self.space.name, 0))
        return train(self, genome, report)

    def scored(self: PGDGrid, way: Finalising, *rest: Any) -> dict[str, float]:
        steps.append((way.space.name, len(self.attacks)))
        return score(self, way, *rest)

    monkeypatch.setattr(Finalising, "train", counted)
    monkeypatch.setattr(PGDGrid, "score", scored)
    finalise(folder, replace(before, handmade=("MobileNetV3",)))
    assert steps == [("shuffle", 3), ("MobileNetV3", 0), ("MobileNetV3", 4), ("MobileNetV3", 3)]


def test_a_network_that_diverges_is_left_out_and_said(
    folder: RunFolder, no_pictures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = Finalising.train

    def diverges(self: Finalising, genome: Genome, report: Report) -> tuple[bytes, float]:
        if arch_id(genome) == ORDER[1]:
            raise DivergedError("training diverged: the loss of epoch 1 is nan")
        return train(self, genome, report)

    monkeypatch.setattr(Finalising, "train", diverges)
    said = finalise(folder, replace(AFTER, finalise_top=2, handmade=("ShuffleNetV2",)))
    assert "failed: training diverged" in said
    assert [(row["name"], row["status"]) for row in rows(folder)] == [
        (ORDER[0], "ok"),
        (ORDER[1], "failed"),
        ("ShuffleNetV2-x0.03", "ok"),
    ]
    assert f"Left out, because training or scoring diverged: {ORDER[1]} (scratch)." in said
    monkeypatch.setattr(Finalising, "train", train)
    again = replace(AFTER, finalise_top=2, handmade=("ShuffleNetV2",))
    assert "0 left to do" in finalise(folder, again)
    finalise(folder, again, replace(PLAN, retry_failed=True))
    assert [row["status"] for row in rows(folder)] == ["ok"] * 3


def test_a_network_that_diverges_in_one_score_is_left_out_and_said(
    folder: RunFolder, no_pictures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With Table X's grid there are two scores a network."""
    score = PGDGrid.score

    def diverges(self: PGDGrid, way: Finalising, *rest: Any) -> dict[str, float]:
        if len(self.attacks) == 4 and way.space.name == "shuffle":
            raise DivergedError("logits are not finite")
        return score(self, way, *rest)

    monkeypatch.setattr(PGDGrid, "score", diverges)
    said = finalise(folder, replace(AFTER, finalise_top=1, handmade=("ShuffleNetV2",)))
    assert "failed: logits are not finite" in said
    assert [row["status"] for row in rows(folder)] == ["failed", "ok"]


def test_lego_that_is_on_the_front_is_trained_once(
    folder: RunFolder, no_pictures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = finalise(folder, replace(AFTER, finalise_top=1, lego=True, layers_top=1))
    assert "1 left to do" in said
    first, second = rows(folder)
    assert (first.pop("name"), second.pop("name")) == (ORDER[0], "Lego-Net")
    assert first == second


def test_layers_are_counted_without_training(folder: RunFolder, no_pictures: None) -> None:
    said = finalise(folder, FinaliseSettings())
    assert "the top 4 of the front" in said
    assert files(folder, "") == ["layer_statistics.csv", "rows.jsonl"]
    with open(folder.path / "finalised" / "layer_statistics.csv", newline="") as file:
        counts = list(csv.DictReader(file))
    assert list(counts[0]) == ["layer", "kind", "choice", "count"]
    assert sum(int(row["count"]) for row in counts) == 4 * 2 * SPACE.n_places
    finalise(folder, FinaliseSettings(layers_top=2))
    with open(folder.path / "finalised" / "layer_statistics.csv", newline="") as file:
        assert sum(int(row["count"]) for row in csv.DictReader(file)) == 2 * 2 * SPACE.n_places


def test_narrow_consoles_get_narrow_tables(folder: RunFolder, no_pictures: None) -> None:
    screen = io.StringIO()
    settings = replace(AFTER, finalise_top=1, test_epsilons=(2, 4, 6, 8))
    finalise_front(folder, PLAN, settings, WEIGHTS, Console(file=screen, width=80))
    lines = screen.getvalue().splitlines()
    tables = [line for line in lines if line.startswith(("┏", "│"))]
    assert tables
    assert max(map(len, tables)) <= 80
    assert sum(line.startswith(f"│ {ORDER[0]} │ scratch") for line in lines) == 2  # 41 + 9 x 8 characters


def test_a_second_process_is_refused(folder: RunFolder, no_pictures: None) -> None:
    from evonas.audit import RetrainedRecords

    with RetrainedRecords.opened(folder.path / "finalised"), pytest.raises(RunInUseError):
        finalise(folder)


def test_what_would_stop_it_is_found_before(tmp_path: Path) -> None:
    check_finalising(PLAN, AFTER)
    trained = Evaluator(TrainFromScratch(SPACE, DATA, TrainingConfig()), OBJECTIVES, 1)
    with pytest.raises(ConfigurationError, match="slices of a supernet to finalise, got TrainFromScratch"):
        check_finalising(replace(PLAN, evaluator=trained), AFTER)
    clean = replace(PLAN, evaluator=replace(PLAN.evaluator, objectives=OBJECTIVES[:1]))
    with pytest.raises(ConfigurationError, match="pgd_error is missing; search with --objectives"):
        check_finalising(clean, AFTER)
    with pytest.raises(DataError, match="at least one image a class"):
        check_finalising(PLAN, replace(AFTER, test_limit=9))
    with Journal(tmp_path / "journal.jsonl", {}, sync=False):
        pass
    with pytest.raises(ConfigurationError, match="expected networks on the front"):
        finalise(RunFolder(tmp_path))


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"finalise_top": 0}, ConfigurationError, "finalise_top >= 1, got 0"),
        ({"layers_top": 0}, ConfigurationError, "layers_top >= 1"),
        ({"test_limit": 0}, ConfigurationError, "test_limit >= 1"),
        ({"test_steps": (10, 10)}, ConfigurationError, "every one of test_steps once"),
        ({"test_steps": ()}, ConfigurationError, "test_steps >= 1 and at least one"),
        ({"test_epsilons": (0, 8)}, ConfigurationError, "test_epsilons >= 1"),
        ({"test_step_size": 0.0}, ConfigurationError, "test_step_size > 0"),
        ({"handmade_steps": (0,)}, ConfigurationError, "handmade_steps >= 1"),
        ({"handmade": ("VGG",), "finalise": "scratch"}, UnknownNameError, "unknown hand-made network 'VGG'"),
        ({"handmade": ("ResNet-18",)}, ConfigurationError, "with --handmade ResNet-18, got"),
        ({"lego": True}, ConfigurationError, "expected --finalise scratch, finetune or both with --lego"),
        ({"finalise_epochs": 0}, ConfigurationError, "epochs > 0"),
        ({"finalise_m": 0}, ConfigurationError, "m >= 1"),
        ({"finalise_milestones": (40, 20)}, ConfigurationError, "ascending milestones"),
        ({"finalise_precision": "fp8"}, ConfigurationError, "expected a precision"),
        ({"handmade_width": 0.0, "handmade": ("ResNet-18",), "finalise": "scratch"}, ConfigurationError, "width > 0"),
    ],
)
def test_senseless_settings_are_refused(options: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        FinaliseSettings(**options)


def test_the_papers_settings_are_the_defaults() -> None:
    settings = FinaliseSettings()
    training, recipe = settings.training("fp32"), settings.recipe()
    assert (training.epochs, training.batch_size, training.lr, training.milestones) == (100, 512, 0.1, (20, 40, 80))
    assert (training.weight_decay, training.momentum, training.grad_clip) == (5e-3, 0.9, float("inf"))
    assert (recipe.m, recipe.n, recipe.epsilon) == (5, 3, 8 / 255)
    assert list(settings.grid.labels.values()) == [f"P{s} {e}/255" for s in (10, 30, 50) for e in (2, 4, 6, 8)]
    table_x = replace(settings, finalise="both", handmade=("ResNet-18",)).grids[1]
    assert list(table_x.labels.values()) == ["P20 8/255", "P100 8/255", "P100 2/255"]
    assert HandmadeSpace("ResNet-18").cost(np.empty(0, dtype=np.int64)).params == 11_173_962
