"""What makes a supernet predict networks that are trained alone?

Three supernets a seed, trained with one network for some epochs, for every batch, or with each choice equally often;
batch statistics measured on clean images, on attacked ones, or not; the same random networks trained alone.

    python experiments/study_supernet.py                              # quick: minutes on two cores, on digits
    python experiments/study_supernet.py --preset small --seeds 3     # hours, on a part of CIFAR-10
    python experiments/study_supernet.py --help

The same command continues a study that was stopped, however it was stopped. `evonas study supernet` makes the same
study, and says with --status how far it is.
"""

from __future__ import annotations

import sys

from evonas import runs
from evonas.studies import STUDIES
from evonas.studies.options import PRESETS, StudyOptions, make_study


def main(options: StudyOptions) -> None:
    make_study(STUDIES["supernet"], options)


if __name__ == "__main__":
    sys.exit(runs.command(main, PRESETS))
