"""E2RNAS: cells that are accurate, robust and of a wanted size, found by descent of several objectives at once.

    python experiments/e2rnas_cifar10.py --version 1                      # quick: minutes on two cores
    python experiments/e2rnas_cifar10.py --version 2 --preset paper       # five objectives, IV-B of the second version
    python experiments/e2rnas_cifar10.py --version 1 --sweep-L 0.5,1,2    # one search for each L, in one table
    python experiments/e2rnas_cifar10.py --help

The same command continues a run that was stopped, however it was stopped. `evonas e2rnas` gives the same run.
"""

from __future__ import annotations

import sys

from evonas import runs
from evonas.methods.cells import after_search, check_retraining, compose, plan_searches
from evonas.methods.e2rnas import PRESETS, E2rnasOptions


def main(options: E2rnasOptions) -> runs.Result:
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
