"""Tables with exact rows, pictures that are pictures."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evonas.errors import StorageError
from evonas.report import (
    Chance,
    Searched,
    duration,
    front,
    front_text,
    history,
    plot_front,
    plot_history,
    population_table,
    rank_correlations,
    read_genomes,
    shown,
    write_tables,
)
from evonas.search import Entry
from evonas.types import Cost, EvaluationResult, arch_id

SEARCHED = Searched(
    "roco-nas",
    "digits",
    ("clean_error", "macs"),
    columns=("clean_error", "macs", "extra"),
    reference=(1.0, 100.0),
    cost=lambda genome: Cost(7, 70 + int(genome[0])),
)


def entry(gene: int, generation: int, error: float, macs: int, **more: float) -> Entry:
    values = {"clean_error": error, "macs": macs, "params": 5, **more}
    return Entry(EvaluationResult((gene, 0), values, seed=gene, seconds=1.25), generation, gene)


def failed(gene: int, generation: int) -> Entry:
    return Entry(EvaluationResult.failure((gene, 0), gene, "boom"), generation, gene)


ENTRIES = [
    entry(1, 0, 0.5, 20),
    failed(2, 0),
    entry(3, 0, 0.1, 50, extra=3.5),
    entry(4, 1, 0.5, 60),
    entry(5, 1, 0.3, 20),
]


def test_columns_and_rows_stand_in_the_stated_order() -> None:
    table = population_table(ENTRIES, SEARCHED)
    assert list(table.columns) == [
        "arch_id",
        "generation",
        "rank",
        "status",
        "clean_error",
        "extra",
        "params",
        "macs",
        "train_seconds",
        "seed",
        "method",
        "data",
        "genome",
    ]
    # (.1, 50) and (.3, 20) are the front, (.5, 20) is dominated by the second alone, (.5, 60) by all three
    assert table["genome"].tolist() == ["3 0", "5 0", "1 0", "4 0", "2 0"]
    assert table["rank"].tolist() == [0, 0, 1, 2, None]
    assert table["generation"].tolist() == [0, 1, 0, 1, 0]
    assert table["arch_id"].tolist() == [arch_id((gene, 0)) for gene in (3, 5, 1, 4, 2)]
    assert front(table)["genome"].tolist() == ["3 0", "5 0"]


def test_the_order_of_the_journal_does_not_matter() -> None:
    forwards, backwards = population_table(ENTRIES, SEARCHED), population_table(ENTRIES[::-1], SEARCHED)
    assert forwards.equals(backwards)


def test_files_read_back_to_the_digit(tmp_path: Path) -> None:
    exact = [entry(1, 0, 0.1 + 0.2, 123456789)]
    write_tables(tmp_path, population_table(exact, SEARCHED), history(exact, SEARCHED))
    with open(tmp_path / "front.csv", newline="") as file:
        row = next(csv.DictReader(file))
    assert row == {
        "arch_id": arch_id((1, 0)),
        "generation": "0",
        "rank": "0",
        "status": "ok",
        "clean_error": "0.30000000000000004",
        "extra": "",
        "params": "5",
        "macs": "123456789",
        "train_seconds": "1.25",
        "seed": "1",
        "method": "roco-nas",
        "data": "digits",
        "genome": "1 0",
    }


def test_a_failed_row_has_its_costs_but_no_errors_and_no_rank(tmp_path: Path) -> None:
    write_tables(tmp_path, population_table(ENTRIES, SEARCHED), history(ENTRIES, SEARCHED))
    with open(tmp_path / "population.csv", newline="") as file:
        row = list(csv.DictReader(file))[-1]
    assert (row["status"], row["rank"], row["clean_error"], row["extra"]) == ("failed", "", "", "")
    assert (row["params"], row["macs"]) == ("7", "72")


@pytest.mark.lengthy
def test_without_a_cost_function_unknown_costs_stay_empty(tmp_path: Path) -> None:
    """As for a space of the user's own: what was measured is there, the failed row has empty cells."""
    searched = replace(SEARCHED, cost=None)
    write_tables(tmp_path, population_table(ENTRIES, searched), history(ENTRIES, searched))
    with open(tmp_path / "population.csv", newline="") as file:
        first, *_, last = csv.DictReader(file)
    assert (first["params"], first["macs"]) == ("5", "50")
    assert (last["status"], last["params"], last["macs"]) == ("failed", "", "")
    plot_front(tmp_path / "front.png", population_table(ENTRIES, searched), searched)
    assert (tmp_path / "front.png").read_bytes().startswith(b"\x89PNG")


def test_history_counts_everything_found_so_far() -> None:
    """Against (1, 100): first (.5, 20) and (.1, 50): .5*80 + .4*50 = 60; then (.3, 20) instead of (.5, 20): 66."""
    rows = history(ENTRIES, SEARCHED)
    assert [(row.generation, row.evaluations, row.seconds) for row in rows] == [(0, 3, 2.5), (1, 5, 5.0)]
    assert [row.hypervolume for row in rows] == pytest.approx([60.0, 66.0])


def test_history_turns_what_is_maximised() -> None:
    """Area of (error, radius) = (.5, 3) against (1, 0): .5 * 3."""
    searched = Searched("m", "d", ("clean_error", "radius"), maximize=("radius",), reference=(1.0, 0.0))
    one = Entry(EvaluationResult((1,), {"clean_error": 0.5, "radius": 3.0}), 0, 0)
    assert history([one], searched)[0].hypervolume == pytest.approx(1.5)
    better = Entry(EvaluationResult((2,), {"clean_error": 0.5, "radius": 4.0}), 0, 1)
    assert front(population_table([one, better], searched))["genome"].tolist() == ["2"]


def test_rank_correlations_by_hand(tmp_path: Path) -> None:
    """Ranks 1 2 3 4 against 1 3 2 4: 1 - 6 * 2 / (4 * 15) = 0.8; the failed row does not count."""
    errors = [(0.1, 0.2, 0.5), (0.2, 0.9, 0.5), (0.3, 0.3, 0.5), (0.4, 0.95, 0.5)]
    entries = [
        entry(number, number // 2, clean, 20, pgd_error=pgd, fgsm_error=fgsm)
        for number, (clean, pgd, fgsm) in enumerate(errors)
    ]
    entries.append(failed(9, 0))
    searched = replace(SEARCHED, columns=("clean_error", "macs", "pgd_error", "fgsm_error", "pgd_error_L0"))
    assert rank_correlations(entries, searched) == {"pgd_error": pytest.approx(0.8), "fgsm_error": None}
    first, second = history(entries, searched)
    assert first.rank_correlation == {"pgd_error": None, "fgsm_error": None}  # two networks say nothing
    assert second.rank_correlation == {"pgd_error": pytest.approx(0.8), "fgsm_error": None}
    write_tables(tmp_path, population_table(entries, searched), [first, second])
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert lines[0].endswith("seconds,rank_correlation_pgd_error,rank_correlation_fgsm_error")
    assert lines[1].endswith(",,")
    assert lines[2].endswith("0.8,")
    assert rank_correlations(entries, replace(searched, objectives=("macs",), columns=("pgd_error",))) == {}


def test_the_front_for_people() -> None:
    searched = replace(SEARCHED, about={"extra": "something else"})
    found = front_text(front(population_table(ENTRIES, searched)), searched, most=1)
    assert found.title == "roco-nas on digits: 2 on the front"
    assert found.header == ("arch_id", "clean error", "macs", "extra", "params")
    assert found.lines == ((arch_id((3, 0)), "10.0%", shown("macs", 50), "3.5", shown("params", 5)),)
    assert found.notes == ("1 more in front.csv", "extra: something else")


def test_the_front_for_people_has_marks_at_chance_level() -> None:
    """Guessing one of 2 classes errs on 50%; of 4 images nothing is better by two standard errors."""
    searched = replace(SEARCHED, chance=Chance(2, 4))
    found = front_text(front(population_table(ENTRIES, searched)), searched, 1, ("generation",))
    assert [line[1] for line in found.lines] == ["10.0%*"]
    assert (found.header[-1], found.lines[0][-1]) == ("generation", "0")
    assert "chance level; guessing one of 2 classes errs on 50.0%" in found.notes[1]


def test_nothing_evaluated_gives_empty_tables(tmp_path: Path) -> None:
    write_tables(tmp_path, population_table([], SEARCHED), history([], SEARCHED))
    assert (tmp_path / "front.csv").read_text().count("\n") == 1
    assert (tmp_path / "history.csv").read_text() == "generation,evaluations,hypervolume,seconds\n"


def test_genomes_come_back_best_first_without_the_failed(tmp_path: Path) -> None:
    write_tables(tmp_path, population_table(ENTRIES, SEARCHED), history(ENTRIES, SEARCHED))
    assert read_genomes(tmp_path / "population.csv") == [[3, 0], [5, 0], [1, 0], [4, 0]]
    assert read_genomes(tmp_path / "front.csv") == [[3, 0], [5, 0]]


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "genome\n1 x\n", "genome\n1.5\n", "\x00\xff"])
def test_another_file_is_one_clear_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "front.csv"
    path.write_text(text)
    with pytest.raises(StorageError, match=r"expected a table with a column 'genome'"):
        read_genomes(path)
    with pytest.raises(StorageError, match="could not read"):
        read_genomes(tmp_path / "absent.csv")


@pytest.mark.lengthy
@pytest.mark.parametrize(
    ("entries", "objectives"),
    [
        ([], ("clean_error",)),
        ([failed(1, 0)], ("clean_error", "macs")),
        (ENTRIES, ("clean_error",)),
        (ENTRIES, ("clean_error", "macs")),
        (ENTRIES, ("clean_error", "macs", "params")),
    ],
)
def test_pictures_are_png_of_a_size_to_look_at(
    tmp_path: Path, entries: list[Entry], objectives: tuple[str, ...]
) -> None:
    from matplotlib.image import imread

    searched = Searched("roco-nas", "digits", objectives, reference=(1.0, 100.0, 10.0)[: len(objectives)])
    plot_front(tmp_path / "front.png", population_table(entries, searched), searched)
    plot_history(tmp_path / "history.png", history(entries, searched), searched)
    for name in ("front.png", "history.png"):
        pixels = imread(tmp_path / name)
        assert min(pixels.shape[:2]) > 400
        assert len(np.unique((255 * pixels[:, :, :3]).astype(np.int64) @ [65536, 256, 1])) > 10  # not one flat colour
    assert sorted(p.name for p in tmp_path.iterdir()) == ["front.png", "history.png"]


def test_values_are_shown_as_people_read_them() -> None:
    assert shown("clean_error", 0.1234) == "12.3%"
    assert shown("macs", 40_927_040) == "40.93M"
    assert shown("params", 336_986) == "337k"
    assert [shown("params", value) for value in (1506, 1000, 999, 470, 0)] == ["1.506k", "1k", "999", "470", "0"]
    assert shown("macs", 1_000_000) == "1M"
    assert shown("certified_radius", 0.0123456) == "0.01235"
    assert [duration(s) for s in (0, 59.6, 187, 7389)] == ["0:00", "1:00", "3:07", "2:03:09"]
