"""RoCo-NAS: search networks of phases with NSGA-II; the front goes to front.csv and front.png in the run's folder.

    python experiments/roco_cifar10.py                                       # quick: minutes on two cores
    python experiments/roco_cifar10.py --preset paper --data cifar10         # Table II
    python experiments/roco_cifar10.py --objectives clean_error,macs --out runs/baseline      # Baseline-NAS
    python experiments/roco_cifar10.py --retrain --against runs/baseline     # Tables III to V, Figures 2 to 6
    python experiments/roco_cifar10.py --help

The same command continues a run that was stopped, however it was stopped. `evonas roco` gives the same run.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from evonas import runs
from evonas.methods.roco import PRESETS, RocoOptions, first_population, white_box
from evonas.methods.roco_retraining import prepare_retraining, retrain_front


def main(options: RocoOptions) -> runs.Result:
    with runs.Run.open("roco-nas", options, "roco") as run:
        data = run.load_data()
        space = options.make_space(data.image_size)
        candidates = run.train_from_scratch(space, data, options.training, options.make_recipe())
        the_set = prepare_retraining(run, options, candidates)
        first = first_population(run, options, space)
        searched = run.make_objectives(
            options.search.objectives,
            data,
            options.attacks,
            options.certify,
            candidates.precision,
            options.adversarial_set,
            space=space,
        )
        objectives = (*searched, *white_box(run, options, candidates))
        found = run.search(space, candidates, objectives, replace(options.search, seed=run.seed), first)
        if options.after.retrain:
            retrain_front(run, options, candidates, found, the_set)
    return found


if __name__ == "__main__":
    sys.exit(runs.command(main, PRESETS))
