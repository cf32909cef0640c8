"""Build a precomputed adversarial set: train target networks, attack them, keep what fooled them, write the card.

    python experiments/build_adversarial_set.py                                # quick: minutes on two cores
    python experiments/build_adversarial_set.py --preset paper --data cifar10  # RoCo-NAS's Table I
    python experiments/build_adversarial_set.py --help

The same command goes on with a building that was stopped, however it was stopped. `evonas build-set` gives the same
set.
"""

import sys
from functools import partial

from evonas.adversarial_sets import AdversarialSet
from evonas.methods.adversarial_set import PRESETS, BuildOptions, make_plan, set_file, show_set
from evonas.runs import Screen, command
from evonas.runs.execution import make_executor, resolve_hardware
from evonas.runs.interrupt import interruptible
from evonas.runs.sets import find_or_build


def main(options: BuildOptions) -> AdversarialSet:
    with interruptible() as interruption:
        screen = Screen(check=interruption.check)
        hardware = resolve_hardware(options.execution, {})
        plan = make_plan(options, hardware, screen)
        executor = partial(make_executor, options.execution, hardware)
        path = set_file(options, plan)
        found, where = find_or_build(plan, path, screen, executor=executor)  # trains the targets and attacks them
        show_set(found, where, screen)
    return found


if __name__ == "__main__":
    sys.exit(command(main, PRESETS))
