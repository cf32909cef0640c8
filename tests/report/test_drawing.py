"""Pictures of cells: nothing lies on anything else, every line leads where the genotype says."""

import random
from dataclasses import dataclass
from functools import cache
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch
from matplotlib.transforms import Bbox

from evonas.networks.darts import GENOTYPES
from evonas.networks.darts_operations import PRIMITIVES
from evonas.report import draw_genotype
from evonas.report.cell_columns import Columns
from evonas.report.cell_layout import CellLayout, cell_layout
from evonas.report.drawing import genotype_figure, operation_colour, operation_words

Pairs = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Drawn:
    """Any two cells."""

    normal: Pairs
    normal_concat: tuple[int, ...]
    reduce: Pairs
    reduce_concat: tuple[int, ...]


def random_cell(rng: random.Random, nodes: int) -> Pairs:
    inputs = [each for node in range(nodes) for each in rng.sample(range(node + 2), 2)]
    return tuple((rng.choice(PRIMITIVES[1:]), each) for each in inputs)


def random_cells(seed: int, nodes: int) -> Drawn:
    rng = random.Random(seed)
    concat = tuple(sorted(rng.sample(range(2, nodes + 2), rng.randint(1, nodes))))
    return Drawn(random_cell(rng, nodes), tuple(range(2, nodes + 2)), random_cell(rng, nodes), concat)


CHAIN: Pairs = tuple(("sep_conv_5x5", each) for each in (0, 1, 2, 1, 3, 0, 4, 0))
CELLS = {
    **GENOTYPES,
    "chain": Drawn(CHAIN, (5,), CHAIN, (2, 3, 4, 5)),
    "one node": Drawn(CHAIN[:2], (2,), CHAIN[:2], (2,)),
    **{f"random, {nodes} nodes": random_cells(nodes, nodes) for nodes in (3, 4, 6)},
}


@cache
def laid_out(name: str, kind: str) -> CellLayout:
    cells = CELLS[name]
    return cell_layout(getattr(cells, kind), getattr(cells, f"{kind}_concat"))


class Page:
    """What is drawn, in pixels: operations and states, their words, headings, points along all lines."""

    def __init__(self, figure: Figure) -> None:
        renderer = FigureCanvasAgg(figure).get_renderer()
        self.shapes: list[Bbox] = []
        self.round: list[bool] = []
        self.words: list[Bbox] = []
        self.headings = [text.get_window_extent(renderer) for text in figure.texts]
        self.lines: list[npt.NDArray[np.float64]] = []
        for axes in figure.axes:
            for patch in axes.patches:
                if isinstance(patch, FancyBboxPatch | Circle):
                    self.shapes.append(patch.get_window_extent(renderer))
                    self.round.append(isinstance(patch, Circle))
                elif isinstance(patch, PathPatch):
                    points = np.concatenate(patch.get_path().to_polygons(closed_only=False))
                    self.lines.append(axes.transData.transform(points))
            heading, *words = [text.get_window_extent(renderer) for text in axes.texts]
            self.headings.append(heading)
            self.words += words

    def inside(self, number: int) -> bool:
        """Whether a line comes more than two pixels into a shape."""
        box = self.shapes[number]
        away = np.concatenate(self.lines) - np.array([box.x0 + box.x1, box.y0 + box.y1]) / 2
        if self.round[number]:
            return bool((np.hypot(*away.T) < box.width / 2 - 2).any())
        return bool((np.abs(away) < np.array([box.width, box.height]) / 2 - 2).all(axis=1).any())


@pytest.mark.parametrize("name", CELLS)
def test_nothing_lies_on_anything_else(name: str) -> None:
    cells = CELLS[name]
    figure = genotype_figure(cells, f"{name} on cifar10, epoch 50 of 50, about 3.3 million parameters are expected")
    page = Page(figure)
    edges = len(cells.normal) + len(cells.reduce)
    assert len(page.shapes) == len(page.words) == edges + edges // 2 + 6
    for first, second in combinations([*page.shapes, *page.headings], 2):
        assert not first.overlaps(second)
    for shape, word in zip(page.shapes, page.words, strict=True):
        assert shape.x0 < word.x0 < word.x1 < shape.x1
        assert shape.y0 < word.y0 < word.y1 < shape.y1
    for box in (*page.shapes, *page.headings):
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1
    assert not any(page.inside(number) for number in range(len(page.shapes)))


@pytest.mark.parametrize("name", CELLS)
def test_every_edge_of_the_genotype_is_a_line(name: str) -> None:
    cells = CELLS[name]
    for kind, pairs, concat in (
        ("normal", cells.normal, cells.normal_concat),
        ("reduce", cells.reduce, cells.reduce_concat),
    ):
        layout = laid_out(name, kind)
        found, output = [], []
        for wire in layout.wires:
            items = [layout.items[number] for number in wire.items]
            assert [item.column for item in items] == list(range(items[0].column, items[0].column + len(items)))
            names = [item.name for item in items if item.kind == "operation"]
            assert names == ([wire.operation] if wire.operation else [])
            if wire.operation:
                found.append((wire.operation, items[0].state, items[-1].state))
            else:
                output.append(items[0].state)
                assert items[-1].state == 2 + len(pairs) // 2
        assert found == [(operation, source, 2 + place // 2) for place, (operation, source) in enumerate(pairs)]
        assert output == list(concat)


@pytest.mark.parametrize("name", CELLS)
def test_what_stands_in_a_column_keeps_its_distance(name: str) -> None:
    for layout in (laid_out(name, "normal"), laid_out(name, "reduce")):
        for column in layout.columns:
            for upper, lower in pairwise(column):
                a, b = layout.items[upper], layout.items[lower]
                assert a.y - a.half_height - (b.y + b.half_height) > 0.2


def crossings(layout: CellLayout) -> int:
    """Counted pair by pair."""
    items, pieces = layout.items, layout.pieces
    return sum(
        items[a].column == items[c].column and (items[a].y - items[c].y) * (items[b].y - items[d].y) < 0
        for (a, b), (c, d) in combinations(pieces, 2)
    )


def test_lines_cross_no_more_than_they_must() -> None:
    """Two nodes that both read both inputs cannot be drawn without a crossing; a chain can."""
    both = (("sep_conv_3x3", 0), ("sep_conv_3x3", 1)) * 2
    assert crossings(cell_layout(both, (2, 3))) == 1
    chain = (("skip_connect", 0), ("skip_connect", 1), ("skip_connect", 2), ("skip_connect", 0))
    assert crossings(cell_layout(chain, (3,))) == 0
    assert crossings(laid_out("DARTS_V2", "normal")) <= 4
    assert crossings(laid_out("DARTS_V2", "reduce")) <= 1


def test_crossings_are_counted_and_untangled() -> None:
    """0 and 1 lead to 3 and 2: one crossing, none after a swap."""
    columns = Columns([[0, 1], [2, 3]], [(0, 3), (1, 2)], [0.5] * 4, set())
    assert columns.crossings() == 1
    columns.untangle()
    assert columns.crossings() == 0
    y = columns.heights([])
    assert [abs(each) for each in y] == pytest.approx([0.61] * 4)  # two halves of 0.5 and a gap of 0.22 apart
    assert (y[0], y[1]) == pytest.approx((y[3], y[2]))


def test_a_lone_line_is_level() -> None:
    layout = cell_layout((("skip_connect", 0), ("skip_connect", 0)), (2,))
    a, b = (item for item in layout.items if item.kind == "operation")
    node, end = (next(item for item in layout.items if item.state == state) for state in (2, 3))
    assert node.y == pytest.approx(end.y, abs=1e-6) == pytest.approx((a.y + b.y) / 2, abs=1e-6)


def test_the_same_cell_is_the_same_picture() -> None:
    cells = GENOTYPES["PDARTS"]
    assert cell_layout(cells.normal, cells.normal_concat) == laid_out("PDARTS", "normal")


def test_the_file_is_a_picture_to_look_at(tmp_path: Path) -> None:
    from matplotlib.image import imread

    draw_genotype(tmp_path / "genotype.png", GENOTYPES["DARTS_V2"], "DARTS_V2")
    assert [path.name for path in tmp_path.iterdir()] == ["genotype.png"]
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
