"""Runs that are on disk: their plan again, from their own configuration."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from evonas.costs import count_macs, count_params
from evonas.errors import ConfigurationError, choose
from evonas.runs.folder import RunFolder
from evonas.runs.roco import stored_roco
from evonas.runs.search import Plan
from evonas.runs.tam import stored_tam
from evonas.search import Entry
from evonas.types import Progress

__all__ = ["STORED_PLANS", "recount", "reevaluate", "stored_plan"]

STORED_PLANS: dict[str, Callable[[Path, Mapping[str, Any]], Plan]] = {"roco-nas": stored_roco, "tam-nas": stored_tam}
"""Method -> its plan again from (run folder, config.json); all others are searches by gradient."""

BY_GRADIENT = ("darts", "dsrna", "e2rnas", "pcdarts", "pdarts")
"""What the names of their methods begin with."""


def stored_plan(folder: RunFolder) -> Plan:
    """The plan of the run in a folder, with its data loaded. An error where the data is not the run's own."""
    config = folder.open_stored()
    method = config["identity"]["method"]
    if method.startswith(BY_GRADIENT):
        from evonas.runs.gradient import stored_gradient

        plan = stored_gradient(folder.path, config)
    else:
        plan = choose(STORED_PLANS, method, "method")(folder.path, config)
    if plan.identity["data"] != config["identity"]["data"]:
        raise ConfigurationError(
            f"expected the data that {folder.path} was searched on ({config['identity']['data']['fingerprint']}), "
            f"got {plan.identity['data']['fingerprint']}; set EVONAS_DATA to the root that holds it"
        )
    return plan


def recount(plan: Plan, entries: list[Entry]) -> Iterator[tuple[Entry, int, int]]:
    """(entry, params, macs) of every entry that is ok, counted on the network built anew."""
    data = plan.evaluator.prepare.data
    for entry in entries:
        if entry.result.ok:
            network = plan.space.build(np.array(entry.result.genome), plan.n_classes)
            size = data.image_size
            yield entry, count_params(network), count_macs(network, (3, size, size))


def reevaluate(plan: Plan, entry: Entry, report: Callable[[Progress], None]) -> dict[str, tuple[float, float]]:
    """Evaluate an entry again from its seed: column -> (recorded, found now); on the CPU they are equal."""
    result = plan.evaluator.make_evaluate(report)(np.array(entry.result.genome, dtype=np.int64), entry.result.seed)
    if not result.ok:
        raise ConfigurationError(f"evaluating {entry.key} again failed: {result.reason}")
    return {name: (value, result.objectives[name]) for name, value in entry.result.objectives.items()}
