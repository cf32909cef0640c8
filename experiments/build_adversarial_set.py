"""Build a precomputed adversarial set: train target networks, attack them, keep what fooled them, write the card.

    python experiments/build_adversarial_set.py                                # quick: minutes on two cores
    python experiments/build_adversarial_set.py --preset paper --data cifar10  # RoCo-NAS's Table I
    python experiments/build_adversarial_set.py --help

The same command goes on with a building that was stopped, however it was stopped.
"""

import sys

from evonas.methods.adversarial_set import PRESETS, run
from evonas.runs import command

if __name__ == "__main__":
    sys.exit(command(run, PRESETS))
