"""TAM-NAS's tables and figures: supernets of several strengths of attack, their fronts trained to the end.

Tables II to VI and VIII to X, Figures 5 to 9. A run is a supernet S or 2S, trained against PGD of one epsilon and one
number of steps, its search, and its front trained within the same epsilon; SVHN's are in the preset paper alone.

    python experiments/study_tam.py                            # quick: minutes on two cores, on digits
    python experiments/study_tam.py --preset small --seeds 3   # hours, on a part of CIFAR-10
    python experiments/study_tam.py --preset paper --seeds 5   # III-C and IV-A, on CIFAR-10 and SVHN: work for GPUs
    python experiments/study_tam.py --help

The same command continues a study that was stopped, however it was stopped.
`evonas study tam` makes the same study, and says with --status how far it is.
"""

from __future__ import annotations

import sys

from evonas import runs
from evonas.studies import STUDIES
from evonas.studies.options import PRESETS, StudyOptions, make_study


def main(options: StudyOptions) -> None:
    make_study(STUDIES["tam"], options)


if __name__ == "__main__":
    sys.exit(runs.command(main, PRESETS))
