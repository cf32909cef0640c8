"""Gain of a second thread where a run does one thing at a time: a supernet of TAM-NAS, a search of DARTS's cells.

    python benchmarks/threads.py                                  # three rounds, some minutes on two cores
    python benchmarks/threads.py --images 64 --channels 4 --layers 3 --rounds 1      # to try it

The second epoch of the supernet of TAM-NAS's preset quick on so many digits, and that of DARTS in either order, half of
the images at each level. One and two threads take turns in one process, each time from the same state; seconds by the
wall, medians over the rounds. Load is how many processes wanted a processor in the last minute, this one included:
beside others, threads of one work wait for each other.
"""

import argparse
import copy
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch

from evonas.data import DeviceData, load_data
from evonas.gradient import GradientSearch, SearchData, Stage, darts, halves
from evonas.methods.tam import PRESETS
from evonas.training import OneShotTraining, TradesYopo
from evonas.training.checkpoints import EpochTraining

CPU = torch.device("cpu")
THREADS = (1, 2)


def again(training: EpochTraining) -> Callable[[], object]:
    """The second epoch of a training, every time."""
    training.run_epoch()
    state = copy.deepcopy(training.state())

    def work() -> None:
        training.restore(copy.deepcopy(state))
        training.run_epoch()

    return work


def supernet(args: argparse.Namespace) -> Callable[[], object]:
    """An epoch of a supernet that is trained by TRADES-YOPO-2-1."""
    options, data = PRESETS["quick"], DeviceData(load_data("digits", train_limit=args.images), CPU)
    space = options.space(32)
    networks = space.supernet(10), space.supernet(10)
    recipe = TradesYopo(m=2, n=1)
    config = options.supernet
    return again(OneShotTraining(space, *networks, data.train, data.augmentation, config, recipe, 0))


def search(args: argparse.Namespace, order: Literal[1, 2]) -> Callable[[], object]:
    """An epoch of a search of cells."""
    data = DeviceData(load_data("digits", train_limit=args.images), CPU)
    below, above = halves(data.train, 0.5)
    method = darts(order)
    stage = Stage(epochs=100, channels=args.channels, layers=args.layers)
    method = replace(method, stages=(stage,), config=replace(method.config, search_batch_size=32))
    parts = SearchData(below, above, None, data.augmentation, data.n_classes, data.normalization)
    return again(GradientSearch(method, parts, 0, CPU))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--channels", type=int, default=16, help="of DARTS's supernet")
    parser.add_argument("--layers", type=int, default=8, help="cells of DARTS's supernet")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    works = {
        "an epoch of TAM-NAS's supernet": supernet(args),
        "an epoch of DARTS, first order": search(args, 1),
        "an epoch of DARTS, second order": search(args, 2),
    }
    print(f"{os.cpu_count()} processors, {args.images} images, DARTS {args.channels} channels, {args.layers} cells")
    for name, work in works.items():
        taken: dict[int, list[float]] = {threads: [] for threads in THREADS}
        for _ in range(args.rounds):
            for threads, seconds in taken.items():
                torch.set_num_threads(threads)
                started = time.perf_counter()
                work()
                seconds.append(time.perf_counter() - started)
        one, two = (statistics.median(taken[threads]) for threads in THREADS)
        ratios = ", ".join(f"{a / b:.2f}" for a, b in zip(*taken.values(), strict=True))
        load = os.getloadavg()[0]
        print(f"{name}: {one:.2f} s, two threads {two:.2f} s; times as fast: {ratios}; load {load:.1f}", flush=True)


if __name__ == "__main__":
    main()
