"""Everything that a run knows of one network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from evonas.runs.folder import stored_space
from evonas.runs.lineage import Lineage, lineage

if TYPE_CHECKING:
    from evonas.costs import LayerCost
    from evonas.report import AuditRow
    from evonas.runs.result import Result

__all__ = ["Portrait", "portrait"]

MEANINGS = {
    "clean_error": "of the validation images",
    "params": "trainable parameters",
    "macs": "multiply-adds for one image",
}
"""Column -> what it is, where its run says nothing more."""


@dataclass(frozen=True)
class Portrait:
    """One network of a run."""

    arch_id: str
    method: str
    data: str
    rank: int
    """Number of its front among all networks of the run, 0 the first."""
    generation: int
    seed: int
    train_seconds: float
    genome: tuple[int, ...]
    description: str
    """The network in the words of its space."""
    values: Mapping[str, float]
    """Column -> measured value."""
    meanings: Mapping[str, str]
    """Column -> what was measured, and how it was searched."""
    kin: Lineage
    drawing: tuple[str, ...]
    """Lines of at most 80 characters."""
    layers: tuple[LayerCost, ...]
    """None where the space is in no table here."""
    audit: tuple[AuditRow, ...]

    def plain(self) -> dict[str, Any]:
        """Plain values for JSON."""
        layers = [{**layer._asdict(), "shape": list(layer.shape)} for layer in self.layers]
        return {**asdict(self), "layers": layers, "genome": list(self.genome)}

    @property
    def totals(self) -> tuple[int, int]:
        """(params, macs) of all layers together."""
        return sum(layer.params for layer in self.layers), sum(layer.macs for layer in self.layers)


def portrait(found: Result, name: str) -> Portrait:
    """A network of a run, with its layers counted on one image of zeros; nothing is loaded and nothing trained.

    Args:
        name: see `Result.entry`.
    Raises:
        UnknownNameError: there is no such network.
    """
    from evonas.costs import layer_costs
    from evonas.report import read_audit
    from evonas.runs.text_drawing import draw_text

    entry = found.entry(name)
    config = found.folder.open_stored()
    space, n_classes = stored_space(config["identity"]["space"]), config["identity"]["data"]["n_classes"]
    genome = np.array(entry.result.genome, dtype=np.int64)
    layers: Sequence[LayerCost] = ()
    if space is not None:
        size = getattr(space, "image_size", 32)
        layers = layer_costs(space.build(genome, n_classes), (3, size, size))
    row = next(row for row in found.population.to_dict("records") if row["arch_id"] == entry.key)
    return Portrait(
        entry.key,
        found.searched.method,
        found.searched.data,
        int(row["rank"]),
        entry.generation,
        entry.result.seed,
        entry.result.seconds,
        entry.result.genome,
        "" if space is None else str(space.describe(genome)),
        dict(entry.result.objectives),
        {column: _meaning(column, found) for column in entry.result.objectives},
        lineage(entry.key, config, space, found.entries),
        () if space is None else tuple(draw_text(space, genome)),
        tuple(layers),
        tuple(each for each in read_audit(found.path).networks if each.arch_id == entry.key),
    )


def _meaning(column: str, found: Result) -> str:
    searched = found.searched
    way = "maximised" if column in searched.maximize else "minimised"
    parts = [searched.about.get(column) or MEANINGS.get(column, ""), way if column in searched.objectives else ""]
    return ", ".join(filter(None, parts))
