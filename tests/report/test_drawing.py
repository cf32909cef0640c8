"""Pictures of cells: nothing lies on anything else, every line leads where the genotype says."""

import random
from collections import Counter
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch
from matplotlib.text import Text
from matplotlib.transforms import Bbox, BboxBase

from evonas.networks.darts import GENOTYPES
from evonas.networks.darts_operations import PRIMITIVES
from evonas.report import draw_genotype
from evonas.report.drawing import Cells, genotype_scene, operation_colour, operation_words, state_name

Pairs = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Drawn:
    """Any two cells."""

    normal: Pairs
    normal_concat: tuple[int, ...]
    reduce: Pairs
    reduce_concat: tuple[int, ...]


def random_cells(seed: int, nodes: int) -> Drawn:
    rng = random.Random(seed)
    normal, reduce = (
        tuple((rng.choice(PRIMITIVES[1:]), rng.randrange(node + 2)) for node in range(nodes) for _ in range(2))
        for _ in range(2)
    )
    concat = tuple(rng.sample(range(2, nodes + 2), rng.randint(1, nodes)))
    return Drawn(normal, tuple(range(2, nodes + 2)), reduce, concat)


CHAIN: Pairs = tuple(("sep_conv_5x5", each) for each in (0, 1, 2, 1, 3, 0, 4, 4))
CELLS: dict[str, Cells] = {
    **GENOTYPES,
    "chain": Drawn(CHAIN, (5,), CHAIN, (2, 3, 4, 5)),
    "one node": Drawn(CHAIN[:2], (2,), CHAIN[:2], (2,)),
    **{f"random, {nodes} nodes": random_cells(nodes, nodes) for nodes in (3, 4, 6)},
}
TITLE = "on cifar10, epoch 50 of 50, about 3.3 million parameters are expected of its network, which has 20 cells"


class Page:
    """A drawn figure in pixels."""

    def __init__(self, cells: Cells, title: str) -> None:
        figure = genotype_scene(cells, title).figure()
        renderer = FigureCanvasAgg(figure).get_renderer()
        (axes,) = figure.axes
        self.whole: BboxBase = figure.bbox
        self.words: list[Text] = list(axes.texts)
        self.extents = [text.get_window_extent(renderer) for text in self.words]
        self.boxes = [each.get_window_extent(renderer) for each in axes.patches if isinstance(each, FancyBboxPatch)]
        circles = [each.get_window_extent(renderer) for each in axes.patches if isinstance(each, Circle)]
        self.states = [each for each in circles if each.width > 20]  # the others are dots
        self.lines = [
            axes.transData.transform(densely(np.concatenate(each.get_path().to_polygons(closed_only=False))))
            for each in axes.patches
            if isinstance(each, PathPatch)
        ]

    def crossed(self, line: npt.NDArray[np.float64]) -> list[str]:
        """Words of operations and states that a line passes through."""
        found = [box for box in self.boxes if inside(line, box, 2).any()]
        for state in self.states:
            away = np.hypot(*(line - np.array([state.x0 + state.x1, state.y0 + state.y1]) / 2).T)
            found += [state] if (away < state.width / 2 - 2).any() else []
        return [self.word(each) for each in found]

    def around(self, point: npt.NDArray[np.float64]) -> Bbox | None:
        """The state that a point lies in."""
        return next((state for state in self.states if inside(point[None], state, 0).all()), None)

    def word(self, box: Bbox) -> str:
        """The text in a box."""
        (found,) = (
            text.get_text()
            for text, extent in zip(self.words, self.extents, strict=True)
            if box.x0 < extent.x0 < extent.x1 < box.x1 and box.y0 < extent.y0 < extent.y1 < box.y1
        )
        return found


def densely(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Some 400 points along a line, evenly."""
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    at = np.linspace(0, along[-1], 400)
    return np.stack([np.interp(at, along, axis) for axis in points.T], axis=1)


def inside(points: npt.NDArray[np.float64], box: Bbox, margin: float) -> npt.NDArray[np.bool_]:
    low, high = np.array([box.x0, box.y0]) + margin, np.array([box.x1, box.y1]) - margin
    within: npt.NDArray[np.bool_] = np.all((points > low) & (points < high), axis=1)
    return within


@cache
def page(name: str) -> Page:
    return Page(CELLS[name], f"{name} {TITLE}")


def edges(cells: Cells) -> list[tuple[str, str, str]]:
    """(operation, state, node) of both cells, in words."""
    return [
        (operation_words(operation), state_name(source), str(number // 2))
        for pairs in (cells.normal, cells.reduce)
        for number, (operation, source) in enumerate(pairs)
    ]


@pytest.mark.lengthy
@pytest.mark.parametrize("name", CELLS)
def test_every_operation_and_every_state_is_named(name: str) -> None:
    cells, found = CELLS[name], page(name)
    nodes = [str(node) for pairs in (cells.normal, cells.reduce) for node in range(len(pairs) // 2)]
    assert Counter(map(found.word, found.boxes)) == Counter(operation for operation, _, _ in edges(cells))
    assert Counter(map(found.word, found.states)) == Counter([*["$c_{k-2}$", "$c_{k-1}$", "$c_k$"] * 2, *nodes])
    headings = [text.get_text() for text in found.words if text.get_fontweight() == "bold"]
    assert headings == ["normal cell", "reduction cell"]
    assert found.words[0].get_text().replace("\n", " ") == f"{name} {TITLE}"


@pytest.mark.lengthy
@pytest.mark.parametrize("name", CELLS)
def test_nothing_lies_on_anything_else(name: str) -> None:
    found = page(name)
    for first, second in combinations(found.extents, 2):
        assert not first.overlaps(second)
    for first, second in combinations([*found.boxes, *found.states], 2):
        assert not first.overlaps(second)
    for box in (*found.extents, *found.boxes, *found.states):
        assert found.whole.x0 <= box.x0 < box.x1 <= found.whole.x1
        assert found.whole.y0 <= box.y0 < box.y1 <= found.whole.y1


@pytest.mark.lengthy
@pytest.mark.lengthy
@pytest.mark.parametrize("name", CELLS)
def test_every_edge_of_the_genotype_is_a_line(name: str) -> None:
    """An edge begins on a state's line, passes through its operation alone and ends on top of its node.

    A state's line passes through nothing.
    """
    cells, found = CELLS[name], page(name)
    drawn = []
    for line in found.lines:
        begun = found.around(line[0])
        if begun is not None:
            assert found.crossed(line) == [found.word(begun)]
            continue
        (operation,) = found.crossed(line)
        (x, y), (end_x, end_y) = line[0], line[-1]
        (source,) = (state for state in found.states if abs((state.y0 + state.y1) / 2 - y) < 1 and state.x1 < x)
        (node,) = (state for state in found.states if state.x0 < end_x < state.x1 and 0 < end_y - state.y1 < 12)
        drawn.append((operation, found.word(source), found.word(node)))
    assert sorted(drawn) == sorted(edges(cells))


@pytest.mark.parametrize("name", CELLS)
def test_states_that_form_the_output_lead_to_it(name: str) -> None:
    cells, found = CELLS[name], page(name)
    ends = [state for state in found.states if found.word(state) == "$c_k$"]
    leading = []
    for line in found.lines:
        for number, end in enumerate(ends):
            state = found.around(line[0])
            if state is not None and 0 < end.x0 - line[-1][0] < 20 and end.y0 < line[-1][1] < end.y1:
                leading.append((number, found.word(state)))
    expected = [
        (number, str(state - 2))
        for number, concat in enumerate((cells.normal_concat, cells.reduce_concat))
        for state in concat
    ]
    assert sorted(leading) == sorted(expected)


@pytest.mark.lengthy
def test_the_same_genotype_is_the_same_file(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        draw_genotype(tmp_path / name, GENOTYPES["PDARTS"], "PDARTS")
    draw_genotype(tmp_path / "other.png", GENOTYPES["DARTS_V1"], "PDARTS")
    assert (
        (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes() != (tmp_path / "other.png").read_bytes()
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png", "other.png"]


@pytest.mark.lengthy
def test_the_file_is_a_picture_to_look_at(tmp_path: Path) -> None:
    from matplotlib.image import imread

    draw_genotype(tmp_path / "genotype.png", GENOTYPES["DARTS_V2"], "DARTS_V2")
    pixels = imread(tmp_path / "genotype.png")[::5, ::5]
    assert min(pixels.shape[:2]) > 160
    assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 100


def test_operations_have_words_and_colours() -> None:
    assert operation_words("sep_conv_3x3") == "sep conv 3×3"
    assert operation_words("max_pool_3x3") == "max pool 3×3"
    assert operation_words("skip_connect") == "skip connect"
    assert operation_colour("sep_conv_3x3") == operation_colour("sep_conv_5x5")
    kinds = {operation_colour(name) for name in PRIMITIVES}
    assert len(kinds) == 6
    assert operation_colour("something") == operation_colour("none")
