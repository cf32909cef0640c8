"""DSRNA's tables: both of its metrics beside DARTS and PC-DARTS searched under perturbed architectures.

Tables 1 to 6: accuracy under attacks, and certified radii; MNIST and ImageNet are in the preset paper alone.

    python experiments/study_dsrna.py                            # quick: minutes on two cores, on digits
    python experiments/study_dsrna.py --preset small --seeds 3   # hours, on a part of CIFAR-10
    python experiments/study_dsrna.py --preset paper --seeds 5   # the paper's settings: work for GPUs
    python experiments/study_dsrna.py --help

The same command continues a study that was stopped, however it was stopped.
`evonas study dsrna` makes the same study, and says with --status how far it is.
"""

from __future__ import annotations

import sys

from evonas import runs
from evonas.studies import STUDIES
from evonas.studies.options import PRESETS, StudyOptions, make_study


def main(options: StudyOptions) -> None:
    make_study(STUDIES["dsrna"], options)


if __name__ == "__main__":
    sys.exit(runs.command(main, PRESETS))
