"""DSRNA: cells that are accurate and robust, found by descent of the loss and a metric of robustness (Eq. 16).

    python experiments/dsrna_cifar10.py --metric bound                    # DSRNA-CB; quick: minutes on two cores
    python experiments/dsrna_cifar10.py --metric jacobian                 # DSRNA-Jacobian
    python experiments/dsrna_cifar10.py --metric jacobian --preset paper --retrain --repeats 5 \\
        --baselines darts-adv,pcdarts-adv                                 # Tables 1, 2, 5 and 6
    python experiments/dsrna_cifar10.py --data mnist --retrain            # Table 4
    python experiments/dsrna_cifar10.py --help

The same command continues a run that was stopped, however it was stopped.
"""

import sys

from evonas.runs import command
from evonas.runs.gradient import run_gradient
from evonas.runs.gradient_dsrna import DSRNA_PRESETS

if __name__ == "__main__":
    sys.exit(command(run_gradient, DSRNA_PRESETS))
