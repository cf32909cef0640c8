"""RoCo-NAS's tables with numbers worked out by hand, and pictures that are pictures."""

import csv
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from evonas.report import FIGURES, Chance, TextTable, retrained_table, roco_tables, write_figures, write_retrained
from evonas.report.papers.roco import PUBLISHED, _figure, closest_pair, lightest, top_mean
from evonas.report.retrained import over_seeds

ATTACKS = {"pgd_error": "PGD, epsilon 1/255", "cw_error": "C&W"}


def row(configuration: str, arch: str, macs: int, error: float, **more: Any) -> dict[str, Any]:
    return {
        "configuration": configuration,
        "arch_id": arch,
        "status": "ok",
        "clean_error": error,
        "adversarial_set_error": error / 2,
        "pgd_error": 2 * error,
        "cw_error": 3 * error,
        "params": macs // 10,
        "macs": macs,
        "channels": 32,
        "epochs": 120,
        "train_seconds": 1.5,
        "seed": 0,
        "data": "cifar10",
        "genome": "0 1",
        "reason": "",
        **more,
    }


def failed(configuration: str, arch: str, macs: int) -> dict[str, Any]:
    kept = ("configuration", "arch_id", "status", "params", "macs", "genome")
    values = row(configuration, arch, macs, 0.0, status="failed")
    return {**{name: values[name] for name in kept}, "reason": "training diverged"}


ROBUST = [
    row("RoCo-NAS", "c", 40_000_000, 0.10),
    row("RoCo-NAS", "a", 20_000_000, 0.20),
    row("RoCo-NAS", "b", 30_000_000, 0.06),
    row("RoCo-NAS", "e", 50_000_000, 0.02),
    row("RoCo-NAS", "d", 40_000_000, 0.12),
    row("RoCo-NAS", "f", 60_000_000, 0.30),
]
BASE = [row("Baseline-NAS", "x", 10_000_000, 0.25), row("Baseline-NAS", "y", 33_000_000, 0.05)]
"""c and d are equally light."""


def cells(table: TextTable, *first: str) -> tuple[str, ...]:
    """What stands after these cells."""
    (line,) = [line for line in table.lines if line[: len(first)] == first]
    return line[len(first) :]


def test_the_lightest_come_first_and_equal_ones_by_name() -> None:
    assert [each["arch_id"] for each in lightest(ROBUST + BASE, "RoCo-NAS")] == list("abcdef")


@pytest.mark.parametrize(("top", "mean"), [(1, 0.2), (3, 0.36 / 3), (5, 0.5 / 5), (9, 0.8 / 6)])
def test_means_over_the_lightest(top: int, mean: float) -> None:
    """Errors by MACs: .2, .06, .1, .12, .02, .3."""
    found = top_mean(ROBUST, "RoCo-NAS", "clean_error", top)
    assert found is not None
    assert found.value == pytest.approx(mean, abs=1e-15)
    assert found.networks == min(top, 6)


def test_there_is_no_mean_of_nothing() -> None:
    assert top_mean([failed("RoCo-NAS", "a", 5)], "RoCo-NAS", "clean_error", 3) is None


def test_tables_in_the_papers_shape() -> None:
    three, four, rest, five = roco_tables(ROBUST + BASE, ATTACKS)
    assert [table.title.split(":")[0] for table in (three, four, five)] == ["Table III", "Table IV", "Table V"]
    assert four.header == ("Configuration", "Top-1", "Top-3", "Top-5")
    assert four.lines == (
        ("RoCo-NAS", "80.00%", "88.00%", "90.00%"),
        ("Baseline-NAS", "75.00%", "85.00% (2)", "85.00% (2)"),  # .25 and .05
    )
    assert cells(three, "L0 and L-inf", "RoCo-NAS") == ("90.00%", "94.00%", "95.00%")
    assert any("transferred, not white-box" in note for note in three.notes)
    assert cells(rest, "MACs", "RoCo-NAS") == ("20M", "30M", "36M")
    assert cells(rest, "parameters", "Baseline-NAS") == ("1M", "2.15M (2)", "2.15M (2)")
    assert cells(rest, "PGD, epsilon 1/255", "RoCo-NAS") == ("60.00%", "76.00%", "80.00%")
    assert cells(rest, "C&W", "Baseline-NAS") == ("25.00%", "55.00% (2)", "55.00% (2)")
    assert five.header == ("Configuration", "Network", "Parameters", "MACs", "PGD", "C&W")
    assert five.lines == (  # 30M and 33M: 3/33 apart; 40M and 33M: 7/40
        ("RoCo-NAS", "b", "3M", "30M", "88.00%", "82.00%"),
        ("Baseline-NAS", "y", "3.3M", "33M", "90.00%", "85.00%"),
    )
    assert "differ by 9.09%" in five.notes[0]
    assert len(five.notes) == 1


def test_results_at_chance_level_have_a_mark_in_every_table() -> None:
    """Guessing one of 10 errs on 90%; of 100 images 85% is within two standard errors, 83.5% is not."""
    bad = [row("A", "p", 40, 0.85), row("A", "q", 60, 0.82), row("B", "r", 41, 0.5)]
    three, four, rest, five = roco_tables(bad, ATTACKS, Chance(10, 100, {"adversarial_set_error": 10_000}))
    assert four.lines[0] == ("A", "15.00%*", "16.50% (2)", "16.50% (2)")
    assert four.lines[1] == ("B", "50.00%", "50.00% (1)", "50.00% (1)")
    assert five.lines[0][2:4] == ("4", "40")
    for table in (three, four, rest, five):
        marked = any(cell.endswith("*") for line in table.lines for cell in line)
        assert marked == any("chance level" in note for note in table.notes)
    assert not any("chance level" in note for table in roco_tables(bad, ATTACKS) for note in table.notes)


def test_one_run_has_no_table_five_and_no_set_no_table_three() -> None:
    bare = [{name: value for name, value in each.items() if "adversarial" not in name} for each in ROBUST]
    assert [table.title[:8] for table in roco_tables(bare, {})] == ["Table IV", "Size, an"]


def test_table_five_shows_what_was_measured() -> None:
    five = roco_tables(ROBUST + BASE, {"pgd_error": "PGD"})[-1]
    assert five.header == ("Configuration", "Network", "Parameters", "MACs", "PGD")


def test_of_equally_close_pairs_the_lightest_is_shown_and_it_is_said() -> None:
    """20M and 22M are as far apart, relatively, as 40M and 44M."""
    first = [row("A", "p", 40, 0.1), row("A", "q", 20, 0.1)]
    second = [row("B", "r", 44, 0.1), row("B", "s", 22, 0.1)]
    found = closest_pair(first + second, "A", "B")
    assert found is not None
    assert (found[0]["arch_id"], found[1]["arch_id"], found[2]) == ("q", "s", 2)
    assert "2 pairs are equally close" in roco_tables(first + second, ATTACKS)[-1].notes[1]
    same_macs = [row("A", "p", 40, 0.1), row("B", "z", 40, 0.1), row("B", "u", 40, 0.1)]
    found = closest_pair(same_macs, "A", "B")
    assert found is not None
    assert (found[1]["arch_id"], found[2]) == ("u", 2)


def test_a_network_is_not_compared_with_itself() -> None:
    both = [row("A", "p", 40, 0.1), row("B", "p", 40, 0.1), row("B", "q", 80, 0.1)]
    found = closest_pair(both, "A", "B")
    assert found is not None
    assert found[1]["arch_id"] == "q"
    five = roco_tables(both[:2], ATTACKS)[-1]
    assert five.lines == ()
    assert "no pair" in five.notes[0]


def test_a_failed_network_is_left_out_and_named() -> None:
    rows = [failed("RoCo-NAS", "0", 5_000_000), *ROBUST[:2]]
    four = roco_tables(rows, ATTACKS)[1]
    assert four.lines == (("RoCo-NAS", "80.00%", "85.00% (2)", "85.00% (2)"),)
    assert four.notes[-1] == "Left out, because training or scoring diverged: 0."
    nothing = roco_tables(rows[:1], {})[0]
    assert nothing.lines == (("RoCo-NAS", "-", "-", "-"),)


def test_files(tmp_path: Path) -> None:
    rows = [*ROBUST, failed("RoCo-NAS", "0", 5_000_000), *BASE]
    write_retrained(tmp_path, rows, roco_tables(rows, ATTACKS), ["PGD: weak."])
    with open(tmp_path / "retrained.csv", newline="") as file:
        found = list(csv.DictReader(file))
    assert list(found[0]) == [
        "configuration",
        "arch_id",
        "status",
        "clean_error",
        "adversarial_set_error",
        "pgd_error",
        "cw_error",
        "params",
        "macs",
        "channels",
        "epochs",
        "train_seconds",
        "seed",
        "data",
        "genome",
        "reason",
    ]
    assert [each["arch_id"] for each in found] == ["0", *"abcdef", "x", "y"]
    assert (found[0]["status"], found[0]["clean_error"], found[0]["reason"]) == ("failed", "", "training diverged")
    assert (float(found[1]["clean_error"]), found[1]["macs"]) == (0.2, "20000000")
    page = (tmp_path / "tables.md").read_text()
    assert "| RoCo-NAS | 80.00% | 88.00% | 90.00% |" in page
    assert page.endswith("\n- PGD: weak.\n")
    assert retrained_table(rows)["arch_id"].tolist() == [each["arch_id"] for each in found]


@pytest.mark.lengthy
def test_figures_are_pictures_and_old_ones_do_not_stay(tmp_path: Path) -> None:
    rows = [*ROBUST, failed("RoCo-NAS", "0", 5_000_000), *BASE]
    written = write_figures(tmp_path, rows, ATTACKS, "cifar10")
    assert [path.name for path in written] == list(FIGURES)
    assert all(path.read_bytes().startswith(b"\x89PNG\r\n") for path in written)
    assert sorted(path.name for path in tmp_path.iterdir()) == list(FIGURES)
    assert len(write_figures(tmp_path, ROBUST, {"cw_error": "C&W"}, "cifar10")) == 4
    assert not (tmp_path / "figure5.png").exists()
    assert write_figures(tmp_path, [failed("RoCo-NAS", "0", 5)], ATTACKS, "cifar10") == []
    assert list(tmp_path.iterdir()) == []


def test_published_networks_are_named_beside_their_points_and_no_name_covers_another() -> None:
    figure = _figure(0, [*BASE, *ROBUST], {}, "cifar10")
    assert figure is not None
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert {text.get_text() for text in axes.texts} == set(PUBLISHED)
    assert axes.get_xscale() == "log"  # published networks are a hundred times as large
    assert "published" in {text.get_text() for text in figure.legends[0].get_texts()}
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(first.overlaps(second) for first, second in combinations(boxes, 2))
    assert all(axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1 for box in boxes)


def test_bars_say_what_they_are_of() -> None:
    rows = [row("RoCo-NAS", "a", 113_400 + seed, 0.1, seed=seed) for seed in range(3)]
    titles = [_figure(1, given, {}, "digits") for given in (rows, rows[:1])]
    assert [figure and figure.axes[0].get_title().splitlines()[0] for figure in titles] == [
        "mean and standard deviation of 3 seeds",
        "in brackets: how many networks there are, where they are fewer",
    ]
    assert over_seeds([2, 3, 3]) == "mean and standard deviation of 2 to 3 seeds"


def test_the_legend_of_equal_bars_covers_none_of_their_numbers() -> None:
    figure = _figure(1, [row(name, name, 113_400, 0.1) for name in ("RoCo-NAS", "Baseline-NAS")], {}, "digits")
    assert figure is not None
    figure.draw_without_rendering()
    (axes,), (legend,) = figure.axes, figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["RoCo-NAS", "Baseline-NAS"]
    assert axes.get_legend() is None
    assert len(axes.texts) == 6
    assert not any(text.get_window_extent().overlaps(legend.get_window_extent()) for text in axes.texts)
