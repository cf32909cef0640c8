"""Stages beside the evaluations of a search, on one slot and on several: seconds, their ratio, equal results.

    python benchmarks/stages.py                                          # every stage, in this process against two
    python benchmarks/stages.py --stages retrain --slots 4 --rounds 3

Each stage runs in a fresh folder, on one slot and on several in turn, and gives a digest of its results, which must be
the same. The exit code is 1 where one differs, or is less than 1.7 times as fast on two slots (in proportion on more).
Seconds on several slots include the start of the worker processes. Nothing else should run on the machine: the load
beside each stage is that of the last minute, which counts what the stage itself needs.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
import tyro
from stages_of_runs import finalise, retrain, search_cells

from evonas.adversarial_sets import SET_PRESETS, BuildPlan, build_adversarial_set
from evonas.data import load_data
from evonas.errors import ConfigurationError
from evonas.executors import LocalExecutor, ProcessExecutor
from evonas.runs import guarded
from evonas.training import resolve_precision

AT_LEAST = 0.85
"""Share of the slots by which a stage must be faster: 1.7 times on two."""


def set_building(folder: Path, slots: int) -> str:
    """The adversarial set of the quick preset: four targets, eight attacks on each."""
    precision, _ = resolve_precision("auto", torch.device("cpu"))
    plan = BuildPlan(
        data=load_data("digits"),
        split_seed=0,
        settings=SET_PRESETS["quick"],
        preset="quick",
        seed=0,
        device="cpu",
        precision="bf16" if precision == "bf16" else "fp32",
    )
    executor = LocalExecutor() if slots == 1 else ProcessExecutor(slots)
    return build_adversarial_set(plan, folder / "set", executor=executor).fingerprint


STAGES: dict[str, Callable[[Path, int], str]] = {
    "set_building": set_building,
    "search_cells": search_cells,
    "retrain": retrain,
    "finalise": finalise,
}
"""Name -> (empty folder, slots) -> digest of the results."""


@dataclass(frozen=True, kw_only=True)
class Args:
    """Seconds of stages on one slot and on several."""

    stages: tuple[str, ...] = tuple(STAGES)
    slots: int = 2
    rounds: int = 1

    def __post_init__(self) -> None:
        unknown = [name for name in self.stages if name not in STAGES]
        if unknown or self.slots < 2 or self.rounds < 1:
            raise ConfigurationError(
                f"expected stages of {', '.join(STAGES)}, slots >= 2 and rounds >= 1, got {', '.join(self.stages)}, "
                f"{self.slots} and {self.rounds}"
            )


def measure(name: str, args: Args) -> bool:
    """Run a stage on one slot and on several, in turn; print a line, and whether all is as it should be."""
    seconds: dict[int, list[float]] = {1: [], args.slots: []}
    digests = set()
    for _ in range(args.rounds):
        for slots, times in seconds.items():
            with tempfile.TemporaryDirectory() as folder:
                started = time.monotonic()
                digests.add(STAGES[name](Path(folder), slots))
                times.append(time.monotonic() - started)
    one, several = (median(times) for times in seconds.values())
    holds = len(digests) == 1 and one / several >= AT_LEAST * args.slots
    print(
        f"{'holds' if holds else 'FAILS'}: {name:16} 1 slot {one:7.1f} s   {args.slots} slots {several:7.1f} s   "
        f"ratio {one / several:.2f}   {'equal' if len(digests) == 1 else 'DIFFERENT'} results   "
        f"load {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    return holds


def main() -> int:
    held: list[bool] = []

    def run() -> None:
        args = tyro.cli(Args, description=__doc__)
        held.extend([measure(name, args) for name in args.stages])

    return guarded(run) or int(not all(held))


if __name__ == "__main__":
    sys.exit(main())
