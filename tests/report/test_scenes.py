"""Drawings of networks of phases and of blocks, and drawings as SVG."""

import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evonas.errors import ConfigurationError
from evonas.report.depictions import DEPICTIONS, depiction_of, write_drawing
from evonas.report.drawing import operation_words
from evonas.report.drawing_phases import COLOURS, RESIDUAL
from evonas.report.scene import INK, Box, Disc, Line, Scene, Shape, Words
from evonas.spaces import DartsSpace, NasBench201Space, PhaseSpace, ShuffleSpace

SVG = "{http://www.w3.org/2000/svg}"
SPACES: tuple[Any, ...] = (
    DartsSpace(),
    PhaseSpace(),
    PhaseSpace(phases=2, nodes=3),
    ShuffleSpace(),
    NasBench201Space(),
)


def of(scene: Scene, kind: type) -> list[Any]:
    return [mark for mark in scene.marks if isinstance(mark, kind)]


def words(scene: Scene) -> Counter[str]:
    return Counter(mark.text for mark in of(scene, Words))


@pytest.mark.parametrize("seed", range(6))
def test_every_connection_of_a_phase_is_an_arrow(seed: int) -> None:
    """A line for each, below the nodes the one from input to output; a disc for each active node, input and output."""
    space = PhaseSpace()
    genome = space.sample(1, np.random.default_rng(seed))[0]
    scene = DEPICTIONS["phase"].scene(space, genome)
    plan = space.plan(genome)
    connections = sum(sum(map(len, graph.node_inputs)) + len(graph.output_inputs) for graph, _ in plan)
    assert len(of(scene, Line)) == len(of(scene, Shape)) == connections
    residual = sum(0 in graph.output_inputs and graph.n_active > 0 for graph, _ in plan)
    assert [line.colour for line in of(scene, Line)].count(RESIDUAL) == residual
    assert len(of(scene, Disc)) == sum(graph.n_active + 2 for graph, _ in plan)
    assert words(scene)["in"] == words(scene)["out"] == len(plan)
    assert {line.colour for line in of(scene, Line)} <= {*COLOURS, RESIDUAL}


def test_lines_above_nodes_that_overlap_have_heights_of_their_own() -> None:
    """Every node reads all earlier ones: nodes 1, 2 and 3 have lines, each above those of the nodes that it passes."""
    space = PhaseSpace(phases=1, nodes=5)
    scene = DEPICTIONS["phase"].scene(space, np.ones(space.n_genes, dtype=np.int64))
    heights: dict[str, set[float]] = {}
    for line in of(scene, Line):
        if line.kinds and line.colour != RESIDUAL:
            heights.setdefault(line.colour, set()).add(round(max(y for _, y in line.points), 6))
    found = [heights[colour] for colour in COLOURS if colour in heights]
    assert all(len(each) == 1 for each in found)
    levels = [each.pop() for each in found]
    assert levels == sorted(levels, reverse=True)
    assert len(set(levels)) == len(levels) == 3


def test_every_block_has_its_name_and_a_bar_as_wide_as_its_ratio() -> None:
    space = ShuffleSpace()
    genome = space.sample(1, np.random.default_rng(0))[0]
    scene = DEPICTIONS["shuffle"].scene(space, genome)
    units, ratios = space.units(genome), space.ratios(genome)
    assert len(of(scene, Box)) == len(units) == 16
    assert words(scene) >= Counter(unit.kind.name for unit in units)
    assert words(scene) >= Counter(f"×{r:.1f}, {u.mid} inner" for r, u in zip(ratios, units, strict=True))
    bars = [line.points[1][0] - line.points[0][0] for line in of(scene, Line) if line.colour == INK]
    assert np.allclose(np.array(bars) / max(bars), np.array(ratios) / max(ratios))
    assert len(of(scene, Disc)) == 3  # blocks of stride 2


@pytest.mark.parametrize("seed", range(4))
def test_every_edge_of_a_cell_that_carries_something_is_a_box(seed: int) -> None:
    space = NasBench201Space()
    genome = space.sample(1, np.random.default_rng(seed))[0]
    scene = DEPICTIONS["nasbench201"].scene(space, genome)
    live = [name for _, _, name in space.edges(genome) if name != "none"]
    assert len(of(scene, Box)) == len(of(scene, Shape)) == len(live)
    assert words(scene) >= Counter(operation_words(name) for name in live)
    assert words(scene)["in"] == words(scene)["out"] == 1


@pytest.mark.parametrize("space", SPACES, ids=lambda space: f"{space.name}-{space.n_genes}")
def test_a_drawing_is_an_svg_within_its_size(space: Any) -> None:
    depiction = depiction_of(space)
    assert depiction is not None
    for genome in space.sample(5, np.random.default_rng(1)):
        if space.violation(genome) > 0 and space.name == "darts":
            continue
        scene = depiction.scene(space, genome)
        root = ElementTree.fromstring(scene.svg())
        wide, high = (float(root.attrib[name]) for name in ("width", "height"))
        for circle in root.iter(f"{SVG}circle"):
            x, y, radius = (float(circle.attrib[name]) for name in ("cx", "cy", "r"))
            assert radius <= x <= wide - radius
            assert radius <= y <= high - radius
        for text in root.iter(f"{SVG}text"):
            assert 0 <= float(text.attrib["x"]) <= wide
            assert 0 <= float(text.attrib["y"]) <= high
        assert "".join(scene.pieces()).startswith('<svg class="net" viewBox="0 0 ')
        answers = Counter(question for question, _ in depiction.choices(space, genome))
        assert answers


def test_texts_are_escaped_and_have_indices() -> None:
    scene = Scene(10, 2, [Words((1, -1), "<b>&$c_{k-2}$", 10)])
    (text,) = ElementTree.fromstring(scene.svg()).iter(f"{SVG}text")
    assert text.text == "<b>&c"
    assert [index.text for index in text] == ["k-2"]


def test_a_space_of_ones_own_has_no_drawing() -> None:
    assert depiction_of(object()) is None
    assert depiction_of(None) is None


def test_a_drawing_is_an_svg_or_a_png(tmp_path: Path) -> None:
    scene = DEPICTIONS["phase"].scene(SPACES[2], np.ones(SPACES[2].n_genes, dtype=np.int64))
    write_drawing(tmp_path / "a.svg", scene)
    write_drawing(tmp_path / "a.png", scene)
    assert (tmp_path / "a.svg").read_text().startswith("<svg ")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigurationError, match=r"expected a file \.svg or \.png"):
        write_drawing(tmp_path / "a.gif", scene)
