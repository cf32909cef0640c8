"""RoCo-NAS: search networks of phases with NSGA-II; the front goes to front.csv and front.png in the run's folder.

    python experiments/roco_cifar10.py                  # quick: minutes on two cores
    python experiments/roco_cifar10.py --preset paper   # Table II: 840 evaluations of 25 epochs
    python experiments/roco_cifar10.py --help

The same command continues a run that was stopped, however it was stopped.
"""

import sys

from evonas.runs import ROCO_PRESETS, command, run_roco

if __name__ == "__main__":
    sys.exit(command(run_roco, ROCO_PRESETS))
