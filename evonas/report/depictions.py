"""Networks of every search space in a report: their drawings, and the choices that they are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evonas.errors import ConfigurationError
from evonas.report.drawing import genotype_scene, operation_words
from evonas.report.drawing_blocks import block_scene
from evonas.report.drawing_nasbench201 import nasbench201_scene
from evonas.report.drawing_phases import phase_scene
from evonas.report.output import write_png, write_text
from evonas.report.scene import Scene
from evonas.types import Genome

__all__ = ["DEPICTIONS", "Depiction", "depiction_of", "write_drawing"]

Choice = tuple[str, str]
"""A question that a space leaves open, and an answer."""


@dataclass(frozen=True)
class Depiction:
    """Networks of a space as people see them."""

    scene: Callable[[Any, Genome], Scene]
    """Drawing of a genome."""
    choices: Callable[[Any, Genome], Iterator[Choice]]
    """Every choice of a genome, as often as it is made."""


def _phase_choices(space: Any, genome: Genome) -> Iterator[Choice]:
    phases = space.plan(genome)
    yield "active phases", str(len(phases))
    for number, (graph, place) in enumerate(phases, start=1):
        yield f"nodes of phase {number}, {place.out_channels} channels", str(graph.n_active)
        connections = sum(map(len, graph.node_inputs)) + len(graph.output_inputs)
        yield f"connections of phase {number}", str(connections)
        yield f"residual connection of phase {number}", "yes" if 0 in graph.output_inputs else "no"


def _shuffle_choices(space: Any, genome: Genome) -> Iterator[Choice]:
    places = zip(space.units(genome), space.ratios(genome), space.plan.places, strict=True)
    for unit, ratio, place in places:
        yield f"blocks of {place.out_channels} channels", unit.kind.name
        yield f"inner widths at {place.out_channels} channels", f"×{ratio:.1f}"


def _darts_choices(space: Any, genome: Genome) -> Iterator[Choice]:
    genotype = space.genotype(genome)
    for cell, pairs in (("normal", genotype.normal), ("reduction", genotype.reduce)):
        for operation, _ in pairs:
            yield f"operations of the {cell} cell", operation_words(operation)


def _nasbench201_choices(space: Any, genome: Genome) -> Iterator[Choice]:
    for start, end, operation in space.edges(genome):
        yield f"edge {start}-{end} of the cell", operation_words(operation)


DEPICTIONS: dict[str, Depiction] = {
    "darts": Depiction(lambda space, genome: genotype_scene(space.genotype(genome)), _darts_choices),
    "nasbench201": Depiction(nasbench201_scene, _nasbench201_choices),
    "phase": Depiction(phase_scene, _phase_choices),
    "shuffle": Depiction(block_scene, _shuffle_choices),
}
"""Name of a space -> how its networks are depicted; a new space is a line."""


def write_drawing(path: Path, scene: Scene) -> None:
    """Draw into an SVG or PNG file, whole or not at all. ConfigurationError for a file of another kind."""
    if path.suffix == ".svg":
        write_text(path, scene.svg())
    elif path.suffix == ".png":
        write_png(path, scene.figure(), dpi=150)
    else:
        raise ConfigurationError(f"expected a file .svg or .png for a drawing, got {path}")


def depiction_of(space: Any) -> Depiction | None:
    """Depiction of a space's networks; None for a space that no table has, such as one of a script."""
    return DEPICTIONS.get(getattr(space, "name", ""))
