"""Every method on one data set: one front a seed, whose networks are on it, what each search took.

Errors are those of the searches, measured alike on the same validation images.

    python experiments/study_joint.py                            # quick: minutes on two cores, on digits
    python experiments/study_joint.py --preset small --seeds 3   # hours, on a part of CIFAR-10
    python experiments/study_joint.py --preset paper --seeds 5   # each paper's own settings: work for GPUs
    python experiments/study_joint.py --help

The same command continues a study that was stopped, however it was stopped.
`evonas study joint` makes the same study, and says with --status how far it is.
"""

from __future__ import annotations

import sys

from evonas import runs
from evonas.studies import STUDIES
from evonas.studies.options import PRESETS, StudyOptions, make_study


def main(options: StudyOptions) -> None:
    make_study(STUDIES["joint"], options)


if __name__ == "__main__":
    sys.exit(runs.command(main, PRESETS))
