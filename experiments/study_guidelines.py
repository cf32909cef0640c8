"""Is it the order of Lego-Net's layers that makes it good?

Lego-Net of the study tam beside its layers reversed, in random orders, and choices of middle frequency, all of as many
parameters and trained alike.

    python experiments/study_guidelines.py                            # quick: minutes on two cores, on digits
    python experiments/study_guidelines.py --from studies/tam-small   # the runs of that study; only orders are trained
    python experiments/study_guidelines.py --help

The same command continues a study that was stopped, however it was stopped. `evonas study guidelines` makes the same
study, and says with --status how far it is.
"""

from __future__ import annotations

import sys

from evonas import runs
from evonas.studies import STUDIES
from evonas.studies.options import PRESETS, StudyOptions, make_study


def main(options: StudyOptions) -> None:
    make_study(STUDIES["guidelines"], options)


if __name__ == "__main__":
    sys.exit(runs.command(main, PRESETS))
