"""DSRNA: cells that are accurate and robust, found by descent of the loss and a metric of robustness (Eq. 16).

    python experiments/dsrna_cifar10.py --metric bound                    # DSRNA-CB; quick: minutes on two cores
    python experiments/dsrna_cifar10.py --metric jacobian                 # DSRNA-Jacobian
    python experiments/dsrna_cifar10.py --metric jacobian --preset paper --retrain --repeats 5 \\
        --baselines darts-adv,pcdarts-adv                                 # Tables 1, 2, 5 and 6
    python experiments/dsrna_cifar10.py --data mnist --retrain            # Table 4
    python experiments/dsrna_cifar10.py --help

The same command continues a run that was stopped, however it was stopped. `evonas dsrna` gives the same run.
"""

from __future__ import annotations

import sys

from evonas import runs
from evonas.methods.cells import after_search, check_retraining, compose, plan_searches
from evonas.methods.dsrna import PRESETS, DsrnaOptions


def main(options: DsrnaOptions) -> runs.Result:
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
