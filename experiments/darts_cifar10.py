"""DARTS, PC-DARTS and P-DARTS: cells found by gradient descent, scored beside every other search's networks.

    python experiments/darts_cifar10.py --method darts                    # quick: minutes on two cores
    python experiments/darts_cifar10.py --method pcdarts --preset paper   # the method's own schedule
    python experiments/darts_cifar10.py --help

The same command continues a run that was stopped, however it was stopped. `evonas darts` gives the same run.
"""

from __future__ import annotations

import sys

from evonas import runs
from evonas.methods.cells import after_search, check_retraining, compose, plan_searches
from evonas.methods.darts import PRESETS, DartsOptions


def main(options: DartsOptions) -> runs.Result:
    from evonas.methods.cell_search import find_cells  # loads torch

    with runs.Run.open(options.method_name, options) as run:
        space, candidates, objectives = compose(run, options)
        searches = plan_searches(run, options, candidates.data)
        check_retraining(run, options, space, candidates.data)
        cells = find_cells(run, searches)
        genomes = [space.canonical(space.from_genotype(each.genotype)) for each in cells]
        found = run.score(space, candidates, objectives, genomes, options.objectives)
        after_search(run, options, candidates, found, cells)
    return found


if __name__ == "__main__":
    sys.exit(runs.command(main, PRESETS))
