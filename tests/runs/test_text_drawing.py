"""Drawings in characters, by hand; never wider than a terminal."""

import numpy as np
import pytest

from evonas.runs.text_drawing import draw_text
from evonas.spaces import SPACES, DartsSpace, NasBench201Space, PhaseSpace, ShuffleSpace


def test_a_phase_by_hand() -> None:
    """Node 2 reads 1, node 3 reads 1 and 2; the output reads node 3 and, by the last bit, the input."""
    space = PhaseSpace(phases=2, nodes=3, channels=4)
    assert draw_text(space, np.array([1, 1, 1, 1, 0, 0, 0, 0])) == [
        "A node is a 3x3 convolution; it reads the states that are marked in its row.",
        "",
        "phase 1: 4 channels, 30x30",
        "       in   1    2    3",
        "  1    ●",
        "  2    │    ●",
        "  3    │    ●    ●",
        "  out  ●              ●",
    ]


def test_a_node_that_nothing_uses_is_not_drawn() -> None:
    (*_, head, first, second, out) = draw_text(PhaseSpace(phases=1, nodes=3), np.array([0, 1, 0, 0]))
    assert [head.split(), first.split(), second.split(), out.split()] == [
        ["in", "1", "3"],
        ["1", "●"],
        ["3", "●"],
        ["out", "●"],
    ]


def test_cells_name_their_operations() -> None:
    space = DartsSpace(layers=3, channels=4, nodes=2)
    genome = space.canonical(space.sample(1, np.random.default_rng(0))[0])
    text = "\n".join(draw_text(space, genome))
    for operation, _ in (*space.genotype(genome).normal, *space.genotype(genome).reduce):
        assert operation in text
    assert text.count("joined") == 2


def test_blocks_have_a_line_each() -> None:
    space = ShuffleSpace()
    genome = space.sample(1, np.random.default_rng(0))[0]
    lines = draw_text(space, genome)
    assert len(lines) == 1 + 16
    for line, unit, place in zip(lines[1:], space.units(genome), space.plan.places, strict=True):
        assert f" {unit.kind.name} " in line
        assert f"{place.in_channels:>4} > {place.out_channels}" in line
    assert lines[1].rstrip().endswith("16x16   stride 2")


def test_a_cell_of_nasbench201_by_hand() -> None:
    """Node 1 leads nowhere: it is not drawn."""
    space = NasBench201Space(channels=4, cells=2)
    assert draw_text(space, np.array([3, 2, 0, 1, 0, 4])) == [
        "3 stages of 2 cells, 4 channels; a node adds up what it reads.",
        "",
        "       in   2",
        "  2    ●           nor_conv_1x1(in)",
        "  out  ●    ●      skip_connect(in) + avg_pool_3x3(2)",
    ]


@pytest.mark.parametrize("name", SPACES)
def test_no_line_is_wider_than_a_terminal(name: str) -> None:
    space = SPACES[name]()
    for genome in space.sample(20, np.random.default_rng(1)):
        lines = draw_text(space, space.canonical(genome))
        assert max(map(len, lines)) <= 80
        assert [line for line in lines if line != line.rstrip()] == []


def test_another_space_is_drawn_in_its_own_words() -> None:
    class Chain:
        def describe(self, genome: object) -> str:
            return "one | " + "two " * 40

    lines = draw_text(Chain(), np.array([1]))
    assert lines[0] == "one"
    assert max(map(len, lines)) <= 80
    assert draw_text(object(), np.array([1])) == []
