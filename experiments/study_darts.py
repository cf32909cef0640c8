"""The baselines of the papers of cells: DARTS in both orders, P-DARTS and PC-DARTS, and their published cells.

Their own results on CIFAR-10; those on ImageNet are in the preset paper alone.

    python experiments/study_darts.py                            # quick: minutes on two cores, on digits
    python experiments/study_darts.py --preset small --seeds 3   # hours, on a part of CIFAR-10
    python experiments/study_darts.py --preset paper --seeds 5   # the papers' settings: work for GPUs
    python experiments/study_darts.py --help

The same command continues a study that was stopped, however it was stopped.
`evonas study darts` makes the same study, and says with --status how far it is.
"""

from __future__ import annotations

import sys

from evonas import runs
from evonas.studies import STUDIES
from evonas.studies.options import PRESETS, StudyOptions, make_study


def main(options: StudyOptions) -> None:
    make_study(STUDIES["darts"], options)


if __name__ == "__main__":
    sys.exit(runs.command(main, PRESETS))
