"""DARTS, PC-DARTS and P-DARTS: cells found by gradient descent, scored beside every other search's networks.

    python experiments/darts_cifar10.py --method darts                    # quick: minutes on two cores
    python experiments/darts_cifar10.py --method pcdarts --preset paper   # the method's own schedule
    python experiments/darts_cifar10.py --help

The same command continues a run that was stopped, however it was stopped.
"""

import sys

from evonas.runs import command
from evonas.runs.gradient import run_gradient
from evonas.runs.gradient_settings import DARTS_PRESETS

if __name__ == "__main__":
    sys.exit(command(run_gradient, DARTS_PRESETS))
