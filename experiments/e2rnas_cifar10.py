"""E2RNAS: cells that are accurate, robust and of a wanted size, found by descent of several objectives at once.

    python experiments/e2rnas_cifar10.py --version 1                      # quick: minutes on two cores
    python experiments/e2rnas_cifar10.py --version 2 --preset paper       # five objectives, IV-B of the second version
    python experiments/e2rnas_cifar10.py --version 1 --sweep-L 0.5,1,2    # one search for each L, in one table
    python experiments/e2rnas_cifar10.py --help

The same command continues a run that was stopped, however it was stopped.
"""

import sys

from evonas.runs import command
from evonas.runs.gradient import run_gradient
from evonas.runs.gradient_settings import E2RNAS_PRESETS

if __name__ == "__main__":
    sys.exit(command(run_gradient, E2RNAS_PRESETS))
