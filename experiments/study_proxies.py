"""Which cheap measure of a search ranks networks as full robust training and AutoAttack do?

Random networks under quick_robust_error, RoCo-NAS's adversarial set, PGD and no attack after clean training, their
parameters and MACs; and the same networks trained by PGD to the end, once a seed.

    python experiments/study_proxies.py                              # quick: minutes on two cores, on digits
    python experiments/study_proxies.py --preset small --seeds 2     # about an hour of one core, on CIFAR-10
    python experiments/study_proxies.py --help

The same command continues a study that was stopped, however it was stopped. `evonas study proxies` makes the same
study, and says with --status how far it is.
"""

from __future__ import annotations

import sys

from evonas import runs
from evonas.studies import STUDIES
from evonas.studies.options import PRESETS, StudyOptions, make_study


def main(options: StudyOptions) -> None:
    make_study(STUDIES["proxies"], options)


if __name__ == "__main__":
    sys.exit(runs.command(main, PRESETS))
