"""What a search by gradient leaves: its table column by column, and pictures with what was logged and no more."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.figure import Figure

from evonas.networks.darts_operations import PRIMITIVES
from evonas.report import plot_alpha, plot_search, search_table, write_search_csv
from evonas.report.drawing import operation_colour
from evonas.report.papers.darts import OPERATIONS, alpha_figure, search_figure

ROWS: list[dict[str, Any]] = [
    {
        "epoch": 1,
        "stage": 1,
        "learning_rate": 0.025,
        "train_loss": 2.5,
        "entropy_normal": 2.07,
        "entropy_reduce": 2.08,
        "expected_params": 2.358,
        "genotype": "normal ...",
        "seconds": 1.5,
    },
    {
        "epoch": 2,
        "stage": 1,
        "learning_rate": 0.02,
        "train_loss": 2.0,
        "upper_loss": 2.1,
        "upper_params": 0.4,
        "weight_loss": 0.25,
        "weight_params": 0.75,
        "entropy_normal": 2.0,
        "entropy_reduce": 2.06,
        "expected_params": 2.3,
        "genotype": "normal ...",
        "seconds": 3.0,
    },
    {
        "epoch": 3,
        "stage": 2,
        "learning_rate": 0.01,
        "train_loss": 0.1 + 0.2,
        "upper_loss": 1.9,
        "upper_params": 0.3,
        "weight_loss": 0.5,
        "weight_params": 0.5,
        "entropy_normal": 1.9,
        "entropy_reduce": 2.0,
        "expected_params": 2.2,
        "genotype": "normal ...",
        "seconds": 3.5,
    },
]


def panels(figure: Figure) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Label of each panel -> label of each of its lines -> points."""
    return {
        axes.get_ylabel(): {
            str(line.get_label()): [(float(x), float(y)) for x, y in np.asarray(line.get_xydata())]
            for line in axes.lines
            if line.get_linestyle() == "-"
        }
        for axes in figure.axes
    }


def test_columns_are_the_same_in_every_row_and_costs_come_last(tmp_path: Path) -> None:
    write_search_csv(tmp_path / "search.csv", ROWS)
    with open(tmp_path / "search.csv", newline="") as file:
        found = list(csv.DictReader(file))
    assert list(found[0]) == [
        "epoch",
        "stage",
        "learning_rate",
        "train_loss",
        "upper_loss",
        "upper_params",
        "weight_loss",
        "weight_params",
        "entropy_normal",
        "entropy_reduce",
        "expected_params",
        "genotype",
        "seconds",
    ]
    assert [row["upper_loss"] for row in found] == ["", "2.1", "1.9"]
    assert found[2]["train_loss"] == "0.30000000000000004"
    assert [row["epoch"] for row in found] == ["1", "2", "3"]


def test_no_epochs_are_an_empty_table() -> None:
    assert search_table([]).empty
    assert search_table(ROWS[:1])["train_loss"].tolist() == [2.5]


def test_what_was_logged_is_drawn_in_its_panels() -> None:
    found = panels(search_figure(ROWS, "E2RNAS"))
    assert found == {
        "loss": {"train": [(1, 2.5), (2, 2.0), (3, pytest.approx(0.3))]},
        "entropy of alpha (nats)": {
            "normal cell": [(1, 2.07), (2, 2.0), (3, 1.9)],
            "reduction cell": [(1, 2.08), (2, 2.06), (3, 2.0)],
        },
        "weights of the upper losses": {"loss": [(2, 0.25), (3, 0.5)], "params": [(2, 0.75), (3, 0.5)]},
        "upper: loss": {"_child0": [(2, 2.1), (3, 1.9)]},
        "upper: params": {"_child0": [(2, 0.4), (3, 0.3)]},
        "expected parameters (millions)": {"_child0": [(1, 2.358), (2, 2.3), (3, 2.2)]},
    }


def test_a_stage_begins_at_a_dashed_line() -> None:
    for axes in search_figure(ROWS).axes:
        assert [np.asarray(line.get_xdata()).tolist() for line in axes.lines if line.get_linestyle() == "--"] == [
            [2.5, 2.5]
        ]


@pytest.mark.lengthy
@pytest.mark.parametrize("rows", [[], ROWS[:1], [{"epoch": 1, "train_loss": None}]])
def test_little_or_nothing_logged_is_a_picture_too(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    plot_search(tmp_path / "search.png", rows, "DARTS")
    assert (tmp_path / "search.png").read_bytes().startswith(b"\x89PNG")
    assert len(panels(search_figure(rows))) == (3 if rows == ROWS[:1] else 1)


def softmaxed(epochs: int, edges: int, operations: int = 8) -> list[npt.NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    weights = np.exp(rng.standard_normal((epochs, 2, edges, operations)))
    return list((weights / weights.sum(axis=3, keepdims=True)).astype(np.float32))


def test_operations_are_darts() -> None:
    assert OPERATIONS == PRIMITIVES


@pytest.mark.lengthy
@pytest.mark.parametrize("nodes", [1, 3, 4])
def test_every_edge_has_a_panel_with_a_line_for_each_operation(nodes: int) -> None:
    edges = nodes * (nodes + 3) // 2
    history = softmaxed(3, edges)
    figure = alpha_figure(history, "DARTS")
    assert len(figure.axes) == 2 * edges
    for number, axes in enumerate(figure.axes):
        drawn = np.array([np.asarray(line.get_ydata()) for line in axes.lines])
        assert np.array_equal(drawn, np.array(history)[:, number // edges, number % edges].T)
        assert [line.get_color() for line in axes.lines] == [operation_colour(name) for name in PRIMITIVES]
        assert np.asarray(axes.lines[0].get_xdata()).tolist() == [1, 2, 3]
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:2] == ["$c_{k-2}$ → 0", "$c_{k-1}$ → 0"]
    assert titles[:edges] == titles[edges:]
    assert len(set(titles)) == edges
    assert titles[-1] == (f"{nodes - 2} → {nodes - 1}" if nodes > 1 else "$c_{k-1}$ → 0")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()][:2] == ["none", "max pool 3×3"]


@pytest.mark.lengthy
def test_a_line_ends_where_its_operation_was_dropped() -> None:
    history = softmaxed(3, 14)
    for each in history[1:]:
        each[1, 5, 3] = 0
    line = alpha_figure(history).axes[14 + 5].lines[3]
    assert np.isnan(np.asarray(line.get_ydata(), dtype=np.float64)).tolist() == [False, True, True]
    assert all((each[0] > 0).all() for each in history)
    assert history[1][1, 5, 3] == 0  # the caller's numbers stay


@pytest.mark.lengthy
def test_no_panel_lies_on_another() -> None:
    figure = alpha_figure(softmaxed(2, 14))
    boxes = [axes.get_position() for axes in figure.axes]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
    assert all(0 < box.x0 < box.x1 < 1 and 0 < box.y0 < box.y1 < 1 for box in boxes)


@pytest.mark.parametrize(
    "history", [[], softmaxed(2, 13), softmaxed(2, 14, 7), [each[:1] for each in softmaxed(2, 14)], [np.zeros((2, 14))]]
)
def test_another_shape_is_refused(history: list[npt.NDArray[np.float32]]) -> None:
    with pytest.raises(ValueError, match=r"expected for at least one epoch weights of shape \(2, edges, 8\)"):
        alpha_figure(history)


@pytest.mark.lengthy
def test_the_file_of_alpha_is_a_picture(tmp_path: Path) -> None:
    plot_alpha(tmp_path / "alpha.png", softmaxed(1, 5), "DARTS")
    assert [path.name for path in tmp_path.iterdir()] == ["alpha.png"]
    assert (tmp_path / "alpha.png").read_bytes().startswith(b"\x89PNG")
