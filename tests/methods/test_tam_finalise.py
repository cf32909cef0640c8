"""TAM-NAS's front trained to the end, with tiny networks: files, tables, continuing, refusing."""

import csv
import io
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tiny_runs import HERE, rows

from evonas.attacks import PGD
from evonas.audit import CLEAN, AuditRecords, ErrorUnder, FinalTraining, lego_genome, pgd_grid
from evonas.data import Dataset, load_data
from evonas.errors import ConfigurationError, DataError, DivergedError, RunInUseError, UnknownNameError
from evonas.evaluation import Evaluator, SliceSupernet, SupernetWeights
from evonas.methods.tam import PRESETS, YOPO_LOOPS, TamOptions
from evonas.methods.tam_finalise import FinaliseOptions, OfSupernet, check_scores, count_layers, finalise_front
from evonas.networks.blocks import seeded
from evonas.objectives import Candidate, CleanError, Objective, Params, PGDError
from evonas.report import shown
from evonas.runs import DataOptions, ExecutionOptions, Result, Run, RunOptions
from evonas.runs.interrupt import Interrupted
from evonas.runs.needs import refuse_unused
from evonas.runs.recording import Searching
from evonas.search import Entry, Journal
from evonas.spaces import HandmadeSpace, ShuffleSpace
from evonas.training import TradesYopo
from evonas.types import EvaluationResult, Genome, Report, arch_id

pytestmark = pytest.mark.lengthy

SPACE = ShuffleSpace(width=1 / 6, depth=0.1)
DATA = load_data("digits", train_limit=40, val_limit=20)
WEIGHTS = SupernetWeights.of(seeded(lambda: SPACE.supernet(10), 1))
OBJECTIVES: tuple[Objective, ...] = (CleanError(), PGDError(attack=PGD(steps=2, stop_when_fooled=True)), Params())
CANDIDATES = SliceSupernet(space=SPACE, data=DATA, weights=WEIGHTS)
EVALUATOR = Evaluator(CANDIDATES, OBJECTIVES, 1)
SEARCHED = Searching("tam-nas", SPACE, EVALUATOR, ("clean_error", "pgd_error", "params")).searched
OPTIONS = RunOptions(data=DataOptions(data="digits"), execution=HERE, seed=5)
AFTER = FinaliseOptions(
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
COLUMNS = ["clean_error", *(f"pgd{steps}_{epsilon}_error" for steps in (1, 2) for epsilon in (4, 8))]

DOMINATED, *GENOMES = sorted(
    (SPACE.canonical(genome) for genome in SPACE.sample(5, np.random.default_rng(1))),
    key=lambda genome: -SPACE.cost(genome).params,
)
SCORES = [(0.4, 0.6), (0.5, 0.5), (0.6, 0.7), (0.7, 0.8)]
"""(clean, PGD) errors of networks that get smaller. Sums of ranks: 0 + 1, 1 + 0, 2 + 2, 3 + 3."""
ORDER = [*sorted(map(arch_id, GENOMES[:2])), *map(arch_id, GENOMES[2:])]
FIRST = next(genome for genome in GENOMES if arch_id(genome) == ORDER[0])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run with the journal of a search that has ended."""
    return searched(tmp_path)


def searched(folder: Path) -> Path:
    with Journal(folder / "journal.jsonl", {}, sync=False) as journal:
        found = zip([*GENOMES[::-1], DOMINATED], [*SCORES[::-1], (0.7, 0.9)], strict=True)
        for number, (genome, (clean, pgd)) in enumerate(found):
            values = {"clean_error": clean, "pgd_error": pgd, "params": SPACE.cost(genome).params}
            journal.append(Entry(EvaluationResult(tuple(genome.tolist()), values), 0, number))
    return folder


@pytest.fixture(autouse=True)
def draws_nothing(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Drawing takes longer than all the rest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evonas.report.plot_layers", lambda *arguments: None)
        yield patch


def finalise(
    folder: Path,
    options: FinaliseOptions = AFTER,
    width: int = 200,
    retry_failed: bool = False,
    epsilon: float = 8 / 255,
    execution: ExecutionOptions = HERE,
) -> str:
    """The text on the screen.

    Args:
        epsilon: radius of the supernet's attack.
    """
    screen = io.StringIO()
    of_run = replace(OPTIONS, out=folder, retry_failed=retry_failed, execution=execution)
    with Run.open("tam-nas", of_run, console=Console(file=screen, width=width)) as run:
        found = Result(run.folder, SEARCHED, lambda: EVALUATOR)
        if options.finalise:
            finalise_front(run, options, CANDIDATES, found, OfSupernet("Supernet: S, drawn at random.", epsilon))
        else:
            count_layers(run, options, found)
    return screen.getvalue()


def finalised(folder: Path) -> list[dict[str, str]]:
    return rows(folder / "finalised" / "finalised.csv")


def files(folder: Path, suffix: str) -> list[str]:
    return sorted(path.name for path in (folder / "finalised").glob(f"*{suffix}"))


def page(folder: Path) -> str:
    return (folder / "finalised" / "tables.md").read_text()


@pytest.mark.slow
def test_everything_at_once(folder: Path, draws_nothing: pytest.MonkeyPatch) -> None:
    draws_nothing.undo()
    options = replace(AFTER, finalise="both", finalise_top=1, lego=True, handmade=("ShuffleNetV2", "ResNet-18"))
    said = finalise(folder, options)
    found = finalised(folder)
    names = [*ORDER[:1] * 2, "Lego-Net", "Lego-Net", "ShuffleNetV2-x0.03", "ResNet-18-x0.03"]
    modes = ["scratch", "finetune"] * 2 + ["scratch"] * 2
    assert [(row["name"], row["mode"]) for row in found] == list(zip(names, modes, strict=True))
    table_x = ["pgd2_8_error", "pgd3_8_error", "pgd3_2_error"]
    assert set(list(found[0])[4:-7]) >= {*COLUMNS, *table_x}
    assert all(float(row[name]) in [n / 10 for n in range(11)] for row in found for name in (*COLUMNS, *table_x))
    assert found[2]["genome"] == " ".join(map(str, lego_genome(SPACE, GENOMES).tolist()))
    assert [row["paper_params"] for row in found] == [""] * 4 + ["4820000.0", "11170000.0"]
    assert found[0]["params"] == str(SPACE.cost(FIRST).params)
    assert files(folder, ".png") == ["layer_statistics.png"]
    assert files(folder, ".csv") == ["finalised.csv", "layer_statistics.csv"]
    assert len(files(folder, ".safetensors")) == 6
    assert not files(folder, ".pt")
    assert "| Network | Mode | Params | Clean | P1 4/255 | P1 8/255 | P2 4/255 | P2 8/255 |" in page(folder)
    assert "| Network | Mode | Params | Clean | P2 8/255 | P3 8/255 | P3 2/255 |" in page(folder)
    assert "| scratch | clean | clean | 1 | none: fewer than 3 networks | - |" in page(folder)
    assert "P1 4/255: accuracy on 10 test images under PGD" in page(folder)  # the first column's own attack
    assert "with 1 steps and epsilon 4/255" in page(folder)
    assert "P2 8/255: accuracy on 10 test images under PGD" in page(folder)
    assert "with 2 steps and epsilon 8/255" in page(folder)
    assert "P10" not in page(folder)
    assert "Networks: trained by TRADES-YOPO-1-1 within 8/255." in page(folder)
    assert "the last iterate counts" in page(folder)
    assert "Table X says 11.17M" in page(folder)
    assert "Supernet: S, drawn at random." in page(folder)
    for title in ("Table II", "Table X", "Rank agreement", "Figures 8 and 9"):
        assert title in said
        assert title in page(folder)


def test_the_tables_hold_what_the_network_has(folder: Path) -> None:
    """Everything again, by hand."""
    finalise(folder, replace(AFTER, finalise_top=1))
    (found,) = finalised(folder)
    by_hand = FinalTraining(
        space=SPACE, data=DATA, training=AFTER.training("fp32"), recipe=AFTER.recipe(8 / 255), mode="scratch", seed=5
    )
    weights, _ = by_hand.train(FIRST, lambda progress: None)
    (name,) = files(folder, ".safetensors")
    assert (folder / "finalised" / name).read_bytes() == weights
    scores: dict[str, float] = {}
    tested = AFTER.measured.tested(DATA, 5)
    for each in (CLEAN, *pgd_grid(((1, 4), (1, 8), (2, 4), (2, 8)), 2 / 255)):
        scores |= each.measure(by_hand.candidate(FIRST, weights), tested, 250, lambda progress: None)
    assert list(scores) == COLUMNS
    assert {key: float(found[key]) for key in scores} == scores
    assert f"| {ORDER[0]} | scratch | {shown('params', SPACE.cost(FIRST).params, 5)} | " + " | ".join(
        f"{100 * (1 - value):.2f}{'*' if value > 0.71 else ''}" for value in scores.values()
    ) in page(folder)  # guessing errs on 0.9, two standard errors over 10 images are 0.19
    assert "*: chance level; guessing one of 10 classes errs on 90.0%, and on 10 images" in page(folder)


def test_the_rank_agreement_is_of_inherited_and_final_errors(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Final clean errors in the order of the inherited ones, PGD errors in the opposite one; closest is P2 8/255."""
    final = {arch_id(genome): scores for genome, scores in zip(GENOMES, SCORES, strict=True)}

    def score(self: ErrorUnder, candidate: Candidate, *arguments: Any) -> dict[str, float]:
        clean, pgd = final[arch_id(candidate.genome)]
        return {self.column: {"clean_error": clean / 2, "pgd2_8_error": 1 - pgd / 2}.get(self.column, 0.5)}

    monkeypatch.setattr(ErrorUnder, "__call__", score)
    monkeypatch.setattr("evonas.audit.audit.in_one_pass", lambda parts: [[place] for place in range(len(parts))])
    finalise(folder)
    assert "| scratch | clean | clean | 4 | +1.000 | 0.0833 |" in page(folder)
    assert "| scratch | PGD, linf 8/255, 2 steps, any iterate | P2 8/255 | 4 | -1.000 | 0.0833 |" in page(folder)


@pytest.mark.slow
def test_a_run_that_is_stopped_continues_bit_for_bit(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    shutil.copy(folder / "journal.jsonl", whole / "journal.jsonl")
    options = replace(AFTER, finalise_top=2, finalise="both")
    finalise(whole, options)
    trained: list[tuple[str, str]] = []
    train = FinalTraining.train

    def counted(self: FinalTraining, genome: Genome, *arguments: Any) -> tuple[bytes, float]:
        trained.append((arch_id(genome), self.mode))
        if len(trained) == 3:
            raise Interrupted(15)
        return train(self, genome, *arguments)

    monkeypatch.setattr(FinalTraining, "train", counted)
    with pytest.raises(Interrupted):
        finalise(folder, options)
    assert not files(folder, "finalised.csv")
    assert "; 4 pending" in finalise(folder, options)  # two are trained, and not measured
    wanted = [(name, mode) for name in ORDER[:2] for mode in ("scratch", "finetune")]
    assert trained == [*wanted[:3], *wanted[2:]]  # the first two not again
    assert finalised(folder) == finalised(whole)
    weights = [
        [(each / "finalised" / name).read_bytes() for name in files(each, ".safetensors")] for each in (folder, whole)
    ]
    assert weights[0] == weights[1]
    assert len(weights[0]) == 4
    assert "; 0 pending" in finalise(folder, options)
    assert len(trained) == 5


@pytest.mark.slow
def test_what_is_added_later_does_not_train_or_score_the_others_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = replace(AFTER, finalise_top=1)
    finalise(folder, before)
    steps: list[tuple[str, str]] = []
    train, score = FinalTraining.train, ErrorUnder.__call__

    def counted(self: FinalTraining, genome: Genome, *arguments: Any) -> tuple[bytes, float]:
        steps.append((self.space.name, "training"))
        return train(self, genome, *arguments)

    def scored(self: ErrorUnder, candidate: Candidate, *arguments: Any) -> dict[str, float]:
        steps.append((candidate.space.name, self.column))
        return score(self, candidate, *arguments)

    monkeypatch.setattr(FinalTraining, "train", counted)
    monkeypatch.setattr(ErrorUnder, "__call__", scored)
    finalise(folder, replace(before, handmade=("MobileNetV3",)))
    added = ["pgd3_8_error", "pgd3_2_error"]
    assert sorted(steps) == sorted(
        [*(("shuffle", name) for name in added), *(("MobileNetV3", name) for name in ("training", *COLUMNS, *added))]
    )


@pytest.mark.slow
def test_a_network_that_diverges_is_left_out_and_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = FinalTraining.train

    def diverges(self: FinalTraining, genome: Genome, *arguments: Any) -> tuple[bytes, float]:
        if arch_id(genome) == ORDER[1]:
            raise DivergedError("training diverged: the loss of epoch 1 is nan")
        return train(self, genome, *arguments)

    options = replace(AFTER, finalise_top=2, handmade=("ShuffleNetV2",))
    with monkeypatch.context() as patch:
        patch.setattr(FinalTraining, "train", diverges)
        said = finalise(folder, options)
    assert "failed: training diverged" in said
    assert [(row["name"], row["status"]) for row in finalised(folder)] == [
        (ORDER[0], "ok"),
        (ORDER[1], "failed"),
        ("ShuffleNetV2-x0.03", "ok"),
    ]
    assert f"Left out, because training or scoring diverged: {ORDER[1]} (scratch)." in said
    assert "; 0 pending" in finalise(folder, options)
    finalise(folder, options, retry_failed=True)
    assert [row["status"] for row in finalised(folder)] == ["ok"] * 3


@pytest.mark.slow
def test_a_network_that_diverges_in_one_score_is_left_out_and_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = ErrorUnder.__call__

    def diverges(
        self: ErrorUnder, candidate: Candidate, tested: Dataset, batch_size: int, report: Report
    ) -> dict[str, float]:
        if self.column == "pgd1_4_error" and candidate.space.name == "shuffle":
            raise DivergedError("logits are not finite")
        return score(self, candidate, tested, batch_size, report)

    monkeypatch.setattr(ErrorUnder, "__call__", diverges)
    said = finalise(folder, replace(AFTER, finalise_top=1, handmade=("ShuffleNetV2",)))
    assert "failed: logits are not finite" in said
    failed, ok = finalised(folder)
    assert (failed["status"], ok["status"]) == ("failed", "ok")
    assert (failed["pgd1_4_error"], failed["reason"]) == ("", "logits are not finite")
    assert failed["pgd1_8_error"] != ""
    assert f"Left out, because training or scoring diverged: {ORDER[0]} (scratch)." in said


def test_lego_that_is_on_the_front_is_trained_once(folder: Path) -> None:
    said = finalise(folder, replace(AFTER, finalise_top=1, lego=True, layers_top=1))
    assert "; 1 pending" in said
    first, second = finalised(folder)
    assert (first.pop("name"), second.pop("name")) == (ORDER[0], "Lego-Net")
    assert first == second


@pytest.mark.lengthy
def test_networks_that_are_trained_again_within_another_radius_are_said_to_be(folder: Path) -> None:
    one, line = replace(AFTER, finalise_top=1), "trained within 8/255, as by version 0.1.0; they are trained again"
    assert line not in finalise(folder, replace(one, finalise_epsilon=8 / 255), epsilon=4 / 255)
    assert line not in finalise(folder, replace(one, finalise_epsilon=8 / 255), epsilon=4 / 255)
    said = finalise(folder, one, epsilon=4 / 255)
    assert f"{line} within the supernet's 4/255, and --finalise-epsilon 8/255 keeps them" in said
    assert line not in finalise(folder, one, epsilon=4 / 255)
    assert len(files(folder, ".safetensors")) == 2


@pytest.mark.lengthy
def test_networks_are_trained_on_all_images_but_the_test_parts_where_asked(folder: Path) -> None:
    screen = finalise(folder, replace(AFTER, train_on="all", finalise_top=1))
    assert "on the 210 images of the train, validation and adversarial parts" in screen
    (row,) = finalised(folder)
    assert (row["train_on"], row["arch_id"], row["status"]) == ("all", ORDER[0], "ok")
    assert "TRADES-YOPO-1-1 within 8/255 on all images but the test part" in page(folder)


def test_layers_are_counted_without_training(folder: Path) -> None:
    def counts() -> list[dict[str, str]]:
        with open(folder / "finalised" / "layer_statistics.csv", newline="") as file:
            return list(csv.DictReader(file))

    said = finalise(folder, FinaliseOptions())
    assert "the top 4 of the front" in said
    assert files(folder, "") == ["layer_statistics.csv"]
    assert list(counts()[0]) == ["layer", "kind", "choice", "count"]
    assert sum(int(row["count"]) for row in counts()) == 4 * 2 * SPACE.n_places
    finalise(folder, FinaliseOptions(layers_top=2))
    assert sum(int(row["count"]) for row in counts()) == 2 * 2 * SPACE.n_places


def test_narrow_consoles_get_narrow_tables(folder: Path) -> None:
    options = replace(AFTER, finalise_top=1, test_epsilons=(2, 4, 6, 8))
    lines = finalise(folder, options, width=80).splitlines()
    tables = [line for line in lines if line.startswith(("┏", "│"))]
    assert tables
    assert max(map(len, tables)) <= 80
    assert sum(line.startswith(f"│ {ORDER[0]} │ scratch") for line in lines) == 3  # 40 + 9 x 9 characters: 4 + 4 + 1


def test_a_second_process_is_refused(folder: Path) -> None:
    with AuditRecords.opened(folder / "finalised"), pytest.raises(RunInUseError):
        finalise(folder)


def test_what_a_killed_process_left_is_removed_and_nothing_else(folder: Path) -> None:
    (folder / "finalised").mkdir()
    gone = 2**22 + 1  # above every process's number
    left = f".a-01234567.safetensors.{gone}.tmp", f".finalised.csv.{gone}.tmp"
    for name in (*left, "mine.tmp", "a-01234567.safetensors"):
        (folder / "finalised" / name).write_bytes(b"")
    finalise(folder, FinaliseOptions())
    assert {path.name for path in (folder / "finalised").iterdir()} == {
        "a-01234567.safetensors",
        "mine.tmp",
        "layer_statistics.csv",
    }


def test_what_would_stop_it_is_found_before(tmp_path: Path) -> None:
    check_scores(("clean_error", "pgd_error", "params"), AFTER, DATA, 5)
    with pytest.raises(ConfigurationError, match="to choose networks of its front by, pgd_error is missing"):
        check_scores(("clean_error", "params"), AFTER, DATA, 5)
    with pytest.raises(DataError, match="at least one image a class"):
        check_scores(("clean_error", "pgd_error"), replace(AFTER, test_limit=9), DATA, 5)
    with Journal(tmp_path / "journal.jsonl", {}, sync=False):
        pass
    with pytest.raises(ConfigurationError, match="expected networks on the front"):
        finalise(tmp_path)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"finalise_top": 0}, ConfigurationError, "finalise_top >= 1, got 0"),
        ({"layers_top": 0}, ConfigurationError, "layers_top >= 1"),
        ({"test_limit": 0}, ConfigurationError, "test_limit >= 1"),
        ({"test_steps": (10, 10)}, ConfigurationError, "every one of test_steps once"),
        ({"test_steps": ()}, ConfigurationError, "expected at least one of test_steps, got none"),
        ({"test_epsilons": (0, 8)}, ConfigurationError, "test_epsilons >= 1"),
        ({"test_step_size": 0.0}, ConfigurationError, r"test_step_size in \(0, 1\], got 0\.0"),
        ({"handmade_steps": (0,)}, ConfigurationError, "handmade_steps >= 1"),
        ({"handmade": ("VGG",), "finalise": "scratch"}, UnknownNameError, "unknown hand-made network 'VGG'"),
        ({"handmade": ("ResNet-18", "ResNet-18")}, ConfigurationError, "every one of handmade once"),
        ({"finalise_epochs": 0}, ConfigurationError, "finalise_epochs >= 1, got 0"),
        ({"finalise_m": 0}, ConfigurationError, "m >= 1"),
        ({"finalise_milestones": (40, 20)}, ConfigurationError, "ascending milestones"),
        ({"finalise_precision": "fp8"}, ConfigurationError, "expected a precision"),
        ({"handmade_width": 0.0, "handmade": ("ResNet-18",), "finalise": "scratch"}, ConfigurationError, "width > 0"),
    ],
)
def test_senseless_options_are_refused(options: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        FinaliseOptions(**options)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"handmade": ("ResNet-18",)}, "--handmade changes nothing without --finalise"),
        ({"lego": True}, "--lego changes nothing without --finalise"),
        ({"test_epsilons": (8,)}, "--test-epsilons changes nothing without --finalise"),
        ({"finalise": "both", "handmade_width": 0.5}, "--handmade-width changes nothing without --handmade"),
    ],
)
def test_options_that_change_nothing_are_refused(given: dict[str, Any], match: str) -> None:
    usual = TamOptions()
    refuse_unused(replace(usual, after=replace(usual.after, layers_top=3)), usual)  # counted anyway
    with pytest.raises(ConfigurationError, match=match):
        refuse_unused(replace(usual, after=replace(usual.after, **given)), usual)


@pytest.mark.parametrize(("given", "radius"), [(None, 4 / 255), (2 / 255, 2 / 255)])
def test_networks_are_trained_within_the_supernets_radius_unless_another_is_given(
    given: float | None, radius: float
) -> None:
    options = TamOptions(supernet_epsilon=4 / 255, after=FinaliseOptions(finalise="scratch", finalise_epsilon=given))
    recipe = options.finalising.recipe(options.supernet_epsilon)
    assert isinstance(recipe, TradesYopo)
    assert recipe.epsilon == radius
    assert recipe.step == pytest.approx(0.007 / 0.031 * radius)
    assert (recipe.m, recipe.n) == (5, 3)


def test_networks_take_the_supernets_loops_by_a_switch() -> None:
    after = FinaliseOptions(finalise="scratch", finalise_supernet_loops=True)
    recipe = TamOptions(supernet_steps=5, after=after).finalising.recipe(8 / 255)
    assert isinstance(recipe, TradesYopo)
    assert (recipe.m, recipe.n) == YOPO_LOOPS[5]
    with pytest.raises(ConfigurationError, match=r"expected a supernet of trades_yopo.* got trades$"):
        TamOptions(supernet_recipe="trades", after=after)
    usual = TamOptions()
    with pytest.raises(ConfigurationError, match="--finalise-m changes nothing without --no-finalise-supernet-loops"):
        refuse_unused(TamOptions(after=replace(after, finalise_m=2)), usual)


def test_the_papers_settings_are_the_defaults() -> None:
    options = FinaliseOptions()
    training, recipe = options.training("fp32"), options.recipe(8 / 255)
    assert isinstance(recipe, TradesYopo)
    assert (training.epochs, training.batch_size, training.lr, training.milestones) == (100, 512, 0.1, (20, 40, 80))
    assert (training.weight_decay, training.momentum, training.grad_clip) == (5e-3, 0.9, float("inf"))
    assert (recipe.m, recipe.n, recipe.epsilon) == (5, 3, 8 / 255)
    assert [each.label for each in options.grid] == [f"P{s} {e}/255" for s in (10, 30, 50) for e in (2, 4, 6, 8)]
    table_x = replace(options, finalise="both", handmade=("ResNet-18",))
    assert [each.label for each in table_x.handmade_grid] == ["P20 8/255", "P100 8/255", "P100 2/255"]
    assert options.handmade_grid == ()
    assert HandmadeSpace("ResNet-18").cost(np.empty(0, dtype=np.int64)).params == 11_173_962
    assert PRESETS["paper"].after == replace(options, finalise="scratch")
