"""TAM-NAS: train one supernet against an attack, search the tiny robust networks in it, train its front to the end.

    python experiments/tam_cifar10.py                                    # quick: minutes on two cores
    python experiments/tam_cifar10.py --preset paper --data cifar10      # III-C and IV-A
    python experiments/tam_cifar10.py --finalise both --lego             # Tables II to V, Figures 8 and 9
    python experiments/tam_cifar10.py --help

The same command continues a run that was stopped, however it was stopped. `evonas tam` gives the same run.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from evonas import runs
from evonas.methods.tam import PRESETS, TamOptions, after_search, use_search
from evonas.methods.tam_supernet import slice_supernet, supernet_precision, train_supernet


def main(options: TamOptions) -> runs.Result:
    with runs.Run.open("tam-nas", options, "tam") as run:
        precision = supernet_precision(run, options)
        data = run.load_data()
        space = options.space(data.image_size)
        objectives = run.make_objectives(
            options.search.objectives, data, options.attacks, options.certify, precision, space=space
        )
        use_search(run, options, space, data, objectives)  # refuses early what could not be searched
        supernet = train_supernet(run, options, space, data, precision)
        candidates = slice_supernet(run, options, space, data, supernet)
        found = run.search(space, candidates, objectives, replace(options.search, seed=run.seed))
        after_search(run, options, candidates, found)
    return found


if __name__ == "__main__":
    sys.exit(runs.command(main, PRESETS))
