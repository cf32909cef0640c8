"""Parents and children of a stored run's networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from evonas.errors import RunMismatchError
from evonas.types import arch_id

if TYPE_CHECKING:
    from evonas.search import Entry

__all__ = ["Lineage", "lineage"]


@dataclass(frozen=True)
class Lineage:
    """Kin of one network within its search."""

    origin: str
    """In words: it was bred, drawn, given, or that is not known."""
    parents: tuple[str, ...] = ()
    """arch_ids of the one or two networks that it was bred from."""
    children: tuple[str, ...] = ()
    """arch_ids of evaluated networks that were bred from it, in the order of their birth."""


def lineage(key: str, config: Mapping[str, Any], space: Any, entries: Sequence[Entry]) -> Lineage:
    """Kin of a network, by walking the path of its search again.

    Args:
        config: of the run, from its config.json.
        space: of the run; None: it is in no table here.
    """
    from evonas.search import EvolutionConfig, genealogy

    if space is None:
        return Lineage("parents unknown: the search space is in no table here; name its file with --plugin")
    given = dict(config["identity"]["search"])
    maximize, first = given.pop("maximize"), given.pop("first", [])
    genomes = [np.array(genes.split(), dtype=np.int64) for genes in first]
    given["objectives"] = tuple(given["objectives"])
    enough = len(entries) if given["population"] > 1 else 0  # one cannot breed
    search = EvolutionConfig(generations=enough, seed=config["identity"]["seed"], **given)
    try:
        n_classes = config["identity"]["data"]["n_classes"]
        found = genealogy(space, search, entries, genomes, maximize, lambda genome: space.cost(genome, n_classes))
    except RunMismatchError as error:
        return Lineage(f"parents unknown: {error}")
    if key not in found:
        return Lineage("parents unknown: it is not on the path that the results of the journal lead to")
    evaluated = {entry.key for entry in entries}
    children = tuple(child for child, parents in found.items() if key in parents and child in evaluated)
    parents = tuple(dict.fromkeys(found[key]))
    if parents:
        return Lineage("bred from other networks", parents, children)
    if key in map(arch_id, genomes):
        return Lineage("given to the search", (), children)
    entry = next((entry for entry in entries if entry.key == key), None)
    if entry is None or entry.proposal < search.population:
        return Lineage("drawn at random for the first population", (), children)
    return Lineage("drawn at random" + (", chosen by the surrogate" if entry.assisted else ""), (), children)
