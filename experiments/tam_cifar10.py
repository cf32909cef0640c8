"""TAM-NAS: one adversarially trained supernet, NSGA-II over its networks, and the front trained to the end.

    python experiments/tam_cifar10.py                  # quick: minutes on two cores
    python experiments/tam_cifar10.py --preset paper   # IV-A: 1,000 epochs of supernet, 1,050 candidates
    python experiments/tam_cifar10.py --help

The same command continues a run that was stopped, however it was stopped.
"""

import sys

from evonas.runs import TAM_PRESETS, command, run_tam

if __name__ == "__main__":
    sys.exit(command(run_tam, TAM_PRESETS))
