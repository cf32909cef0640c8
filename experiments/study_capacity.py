"""Does RoCo-NAS's third objective give robustness that size and clean error do not explain?

Both methods' fronts of the study roco, compared where MACs and clean error are equal: under the searched adversarial
set, under one that no search saw, under PGD and under AutoAttack.

    python experiments/study_capacity.py                              # quick: minutes on two cores, on digits
    python experiments/study_capacity.py --from studies/roco-small    # the runs of that study, measured further
    python experiments/study_capacity.py --help

The same command continues a study that was stopped, however it was stopped. `evonas study capacity` makes the same
study, and says with --status how far it is.
"""

from __future__ import annotations

import sys

from evonas import runs
from evonas.studies import STUDIES
from evonas.studies.options import PRESETS, StudyOptions, make_study


def main(options: StudyOptions) -> None:
    make_study(STUDIES["capacity"], options)


if __name__ == "__main__":
    sys.exit(runs.command(main, PRESETS))
