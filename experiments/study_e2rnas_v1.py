"""E2RNAS, version 1: its cells at four widths beside DARTS's, its ablations, its sweep over L.

Tables 1 to 3 and Figures 2 to 4. Widths follow from the papers' numbers of parameters; CIFAR-100 and SVHN are in the
preset paper alone.

    python experiments/study_e2rnas_v1.py                            # quick: minutes on two cores, on digits
    python experiments/study_e2rnas_v1.py --preset small --seeds 3   # hours, on a part of CIFAR-10
    python experiments/study_e2rnas_v1.py --preset paper --seeds 5   # the paper's settings: work for GPUs
    python experiments/study_e2rnas_v1.py --help

The same command continues a study that was stopped, however it was stopped.
`evonas study e2rnas-v1` makes the same study, and says with --status how far it is.
"""

from __future__ import annotations

import sys

from evonas import runs
from evonas.studies import STUDIES
from evonas.studies.options import PRESETS, StudyOptions, make_study


def main(options: StudyOptions) -> None:
    make_study(STUDIES["e2rnas-v1"], options)


if __name__ == "__main__":
    sys.exit(runs.command(main, PRESETS))
