"""RoCo-NAS's tables and figures: Baseline-NAS and RoCo-NAS, a pair of searches a seed, both fronts trained again.

Tables I to V and Figures 2 to 6. Two adversarial sets are built first, of other images and other targets: the searches
are guided by one, and both fronts are scored on both.

    python experiments/study_roco.py                            # quick: minutes on two cores, on digits
    python experiments/study_roco.py --preset small --seeds 3   # hours, on a part of CIFAR-10
    python experiments/study_roco.py --preset paper --seeds 5   # Table II's settings: work for GPUs
    python experiments/study_roco.py --help

The same command continues a study that was stopped, however it was stopped.
`evonas study roco` makes the same study, and says with --status how far it is.
"""

from __future__ import annotations

import sys

from evonas import runs
from evonas.studies import STUDIES
from evonas.studies.options import PRESETS, StudyOptions, make_study


def main(options: StudyOptions) -> None:
    make_study(STUDIES["roco"], options)


if __name__ == "__main__":
    sys.exit(runs.command(main, PRESETS))
