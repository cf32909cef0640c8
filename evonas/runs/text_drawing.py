"""Drawings of networks in characters, for a terminal of 80 columns."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from evonas.types import Genome

__all__ = ["draw_text"]

WIDTH = 80


class Reader(NamedTuple):
    """A row of a drawing: a node, or an output."""

    name: str
    inputs: tuple[int, ...]
    """States that it reads."""
    words: str = ""


def draw_text(space: Any, genome: Genome) -> list[str]:
    """Lines of at most 80 characters: phases and cells with their connections, blocks one below the other.

    A space that is none of ours is drawn in its own words.
    """
    from evonas.spaces import DartsSpace, NasBench201Space, PhaseSpace, ShuffleSpace

    if isinstance(space, PhaseSpace):
        return [*_phases(space, genome)]
    if isinstance(space, DartsSpace):
        return [*_cells(space, genome)]
    if isinstance(space, ShuffleSpace):
        return [*_blocks(space, genome)]
    if isinstance(space, NasBench201Space):
        return [*_cell(space, genome)]
    parts = str(space.describe(genome)).split(" | ") if hasattr(space, "describe") else []
    return [line for part in parts for line in textwrap.wrap(part, WIDTH, subsequent_indent="    ")]


def _phases(space: Any, genome: Genome) -> Iterator[str]:
    """Every active phase: a node is a 3x3 convolution, and what reads several states joins them."""
    from evonas.networks.phase_plan import plan_phases
    from evonas.spaces.phase_graph import decode, n_bits

    bits = n_bits(space.nodes)
    decoded = (decode(tuple(phase), space.nodes) for phase in genome.reshape(-1, bits).tolist())
    graphs = [graph for graph in decoded if graph is not None]
    plans = plan_phases(len(graphs), space.channels, 3, space.image_size)
    yield "A node is a 3x3 convolution; it reads the states that are marked in its row."
    for number, (graph, plan) in enumerate(zip(graphs, plans, strict=True), start=1):
        active = [node for node, inputs in enumerate(graph.node_inputs, start=1) if inputs]
        place = {0: 0} | {node: at for at, node in enumerate(active, start=1)}
        readers = [Reader(str(node), tuple(place[i] for i in graph.node_inputs[node - 1])) for node in active]
        readers.append(Reader("out", tuple(place[i] for i in graph.output_inputs)))
        yield ""
        yield f"phase {number}: {plan.out_channels} channels, {plan.size}x{plan.size}"
        yield from _wired(["in", *map(str, active)], readers)


def _cells(space: Any, genome: Genome) -> Iterator[str]:
    """The normal cell and the reduction cell: a node is the sum of its two operations."""
    genotype = space.genotype(genome)
    cells = {
        "normal cell": (genotype.normal, genotype.normal_concat),
        "reduction cell": (genotype.reduce, genotype.reduce_concat),
    }
    yield f"{space.layers} cells, {space.channels} channels; a node adds up operations on the marked states."
    for name, (pairs, concat) in cells.items():
        states = ["k-2", "k-1", *(str(node) for node in range(len(pairs) // 2))]
        readers = []
        for node in range(len(pairs) // 2):
            both = pairs[2 * node : 2 * node + 2]
            words = " + ".join(f"{operation}({states[source]})" for operation, source in both)
            readers.append(Reader(str(node), tuple(source for _, source in both), words))
        yield ""
        yield name
        yield from _wired(states, [*readers, Reader("out", tuple(concat), "joined")], given=2)


def _cell(space: Any, genome: Genome) -> Iterator[str]:
    """The cell of NAS-Bench-201: a node is the sum of its operations."""
    yield f"3 stages of {space.cells} cells, {space.channels} channels; a node adds up what it reads."
    states, readers, place = ["in"], list[Reader](), {0: 0}
    for node in (1, 2, 3):
        reads = [(start, name) for start, end, name in space.edges(genome) if end == node and name != "none"]
        name = "out" if node == 3 else str(node)
        if reads or node == 3:
            words = " + ".join(f"{operation}({start or 'in'})" for start, operation in reads)
            readers.append(Reader(name, tuple(place[start] for start, _ in reads), words or "zeros"))
        if reads and node < 3:
            place[node] = len(states)
            states.append(name)
    yield ""
    yield from _wired(states, readers)


def _blocks(space: Any, genome: Genome) -> Iterator[str]:
    """Every choice block with its kind, inner and outer channels, and the size of its output."""
    places, ratios = space.plan.places, genome[space.n_places :]
    names = [unit.kind.name for unit in space.units(genome)]
    wide = max(len("block"), *map(len, names))
    yield f"     {'block':<{wide}}  ratio  inside   in > out   size"
    for number, (unit, ratio, place) in enumerate(zip(space.units(genome), ratios, places, strict=True)):
        size = math.ceil(space.image_size / place.reduction)
        stage = "stride 2" if place.stride == 2 else ""
        line = (
            f"{number:>3}  {names[number]:<{wide}}  x{(ratio + 1) / 5:<4.1f}  {unit.mid:>6}  {place.in_channels:>4} > "
        )
        yield f"{line}{place.out_channels:<4} {size:>3}x{size:<3}  {stage}".rstrip()


def _wired(states: Sequence[str], readers: Sequence[Reader], given: int = 1) -> Iterator[str]:
    """A column for every state, from where it is made to its last reader, and a row for every reader, with a dot where
    it reads a state.

    Args:
        given: number of states that are there before the first reader; the others are the readers in their order.
    """
    wide = max(map(len, (*states, *(reader.name for reader in readers)))) + 2
    last = [
        max((row for row, reader in enumerate(readers) if at in reader.inputs), default=-1) for at in range(len(states))
    ]
    yield (" " * (wide + 2) + "".join(f"{name:<{wide}}" for name in states)).rstrip()
    for row, reader in enumerate(readers):
        cells = ""
        for at in range(len(states)):
            runs = at - given < row <= last[at]
            mark = "●" if at in reader.inputs else "│" if runs else " "
            cells += f"{mark:<{wide}}"
        line = f"  {reader.name:<{wide}}{cells}  {reader.words}".rstrip()
        yield from (
            textwrap.wrap(line, WIDTH, subsequent_indent=" " * 8, drop_whitespace=False) if reader.words else [line]
        )
