"""What a GPU makes of every part of the papers: seconds, memory, projected hours, with CUDA graphs and without.

    python benchmarks/gpu.py                        # on the first GPU, within 8 minutes on an H200
    python benchmarks/gpu.py --write                # the same; its tables go to docs/measured/gpu.md
    python benchmarks/gpu.py --device cpu --tiny    # every line of it, anywhere, within minutes; says nothing of time

First the tests run that need a CUDA device. Then every part is timed in a process of its own, as it is and with CUDA
graphs (`EVONAS_CUDA_GRAPHS`): evaluations of eight networks by 1, 4 and 8 processes (gpu_search.py), an epoch of
TAM-NAS's supernet and one of its finalising, a step of DARTS of either order, PGD-10 on 5,000 images, and the
evolutionary attacks at paper size on 64 images, 2,048 individuals a pass, which use no graphs. Parts of an epoch are
scaled up, and the table says so. Images are CIFAR-10 where its files are, else random bytes of the same size.

It asks for 840 evaluations within an hour, TAM-NAS's supernet within two, DARTS's search within one, and ends with 1
where one of them takes longer, or where a test fails.
"""

import datetime
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import gpu_search
import torch
import tyro
from gpu_search import PAPER, TRAIN, chosen, images, steps
from rich.console import Console
from rich.table import Table
from torch import nn

from evonas.attacks import PGD, PixelAttack, ThresholdAttack
from evonas.data import Augmentation, DeviceData, DevicePart, batches
from evonas.devices import seconds, settle
from evonas.files import replace_file
from evonas.gradient import GradientSearch, SearchData, darts, halves
from evonas.gradient.levels import Means
from evonas.graphs import SWITCH
from evonas.methods.tam_finalise import FinaliseOptions
from evonas.networks.blocks import seeded
from evonas.objectives.scoring import error_under
from evonas.runs import guarded
from evonas.runs.execution import resolve_device
from evonas.search import EvolutionConfig
from evonas.seeding import generator
from evonas.spaces import PhaseSpace, ShuffleSpace
from evonas.training import OneShotConfig, OneShotTraining, TradesYopo, Training, resolve_precision

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "measured" / "gpu.md"
HEAD = """# Measured on a GPU

Written by `python benchmarks/gpu.py --write`.
"""
TESTS = (
    "tests/test_graphs.py",
    "tests/test_devices.py",
    "tests/evaluation/test_host.py",
    "tests/contracts/test_attack_contract.py",
)
Graphs = Literal["auto", "off"]
MODES: dict[str, Graphs] = {"as it is": "off", "with graphs": "auto"}
"""Column -> value of EVONAS_CUDA_GRAPHS."""

HOURS = {"840 evaluations": 1.0, "TAM-NAS's supernet": 2.0, "DARTS's search, second order": 1.0}
"""Part -> hours that it may take at most."""


@dataclass(frozen=True, kw_only=True)
class Args:
    """Seconds, memory and projected hours of every part of the papers on a GPU."""

    device: str = "cuda"
    """cuda, cuda:N or cpu."""
    data_root: Path | None = None
    """Where CIFAR-10 lies; else the variable EVONAS_DATA, else ./data. It is not downloaded."""
    tiny: bool = False
    """Small networks and few images, to run every line; figures mean nothing."""
    write: bool = False
    """Write the tables to docs/measured/gpu.md."""

    def search(self, processes: int, graphs: Graphs) -> gpu_search.Args:
        small = {"train_limit": 200, "val_limit": 50, "channels": 4, "genomes": 2} if self.tiny else {}
        return gpu_search.Args(
            device=self.device, data_root=self.data_root, epochs=1, processes=processes, graphs=graphs, **small
        )

    @property
    def at_once(self) -> tuple[int, ...]:
        return (1, 2) if self.tiny else (1, 4, 8)


@dataclass(frozen=True)
class Timed:
    """A part, timed in one process."""

    part: str
    seconds: float
    peak_bytes: int
    hours: float | None = None
    """Of the paper's whole run, by these seconds."""


class Bench:
    """All parts but the evaluations, on one device."""

    def __init__(self, args: Args) -> None:
        self.args, self.device = args, torch.device(args.device)
        settle(self.device)
        data = images(args.search(1, "auto"))
        self.data = DeviceData(data, self.device)
        self.precision, _ = resolve_precision("auto", self.device, depthwise=True)

    def parts(self) -> Iterator[Callable[[], Timed]]:
        yield self.supernet
        yield self.finalising
        yield lambda: self.darts(1)
        yield lambda: self.darts(2)
        yield self.pgd
        if os.environ[SWITCH] == "off":
            yield lambda: self.evolution("DE", PixelAttack(threshold=5, chunk=2048))
            yield lambda: self.evolution("CMA-ES", ThresholdAttack(threshold=5, chunk=2048))

    def timed(self, run: Callable[[], object]) -> tuple[float, int]:
        """Seconds and bytes at the peak."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
        before = seconds(self.device)
        run()
        taken = seconds(self.device) - before
        return taken, torch.cuda.max_memory_reserved(self.device) if self.device.type == "cuda" else 0

    def generator(self) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(0)

    def first(self, n: int) -> DevicePart:
        """The first images to train on."""
        part = self.data.train
        return DevicePart.of(part.images[:n], part.labels[:n])

    def supernet(self) -> Timed:
        """An epoch on all images, after one on few."""
        space = ShuffleSpace(width=1 / 6, depth=0.1) if self.args.tiny else ShuffleSpace()
        config = OneShotConfig(supernet_precision=self.precision)
        if self.args.tiny:
            config = replace(config, supernet_batch_size=32)
        supernet, momentum = space.supernet().to(self.device), space.supernet().to(self.device)
        part = self.first(96) if self.args.tiny else self.data.train
        recipe = TradesYopo(m=5, n=3)
        few = self.first(2 * config.supernet_batch_size)
        training = OneShotTraining(space, supernet, momentum, few, self.data.augmentation, config, recipe, 0)
        training.run_epoch()
        training.part = part
        taken, peak = self.timed(training.run_epoch)
        return Timed("supernet: an epoch", taken, peak, taken * config.epochs / 3600)

    def finalising(self) -> Timed:
        """An epoch on a quarter of the images, after one on few."""
        options = FinaliseOptions()
        space = ShuffleSpace(width=1 / 6, depth=0.1) if self.args.tiny else ShuffleSpace()
        config = options.training(self.precision)
        if self.args.tiny:
            config = replace(config, batch_size=32)
        network = seeded(lambda: space.build(space.sample(1, generator("finalising"))[0]), 0).to(self.device)
        part = self.first(96 if self.args.tiny else len(self.data.train) // 4)
        recipe = TradesYopo(m=5, n=3)
        few = self.first(2 * config.batch_size)
        training = Training(network, few, self.data.augmentation, config, recipe, self.generator())
        training.run_epoch()
        training.part = part
        taken, peak = self.timed(training.run_epoch)
        epoch = taken * steps(1, TRAIN, config.batch_size) / steps(1, len(part), config.batch_size)
        return Timed("finalising: an epoch (ran a quarter)", epoch, peak, epoch * config.epochs / 3600)

    def darts(self, order: int) -> Timed:
        """Steps of both levels after those that a graph needs before it is replayed."""
        method = darts(order)
        if self.args.tiny:
            stage = replace(method.stages[0], channels=4, layers=3)
            config = replace(method.config, search_batch_size=8)
            method = replace(method, nodes=2, stages=(stage,), config=config)
        size, warm_up, timed = method.config.search_batch_size, 4, 2 if self.args.tiny else 20
        below, above = halves(self.first(2 * size * (warm_up + timed)), 0.5)
        data = SearchData(below, above, None, Augmentation(flip=True), 10, self.data.normalization)
        search = GradientSearch(method, data, 0, self.device, "fp32" if order == 2 else self.precision)
        search.levels.begin_epoch(method.config.search_lr, 0.0, self.generator())
        given = list(search.batches())
        means = Means()
        for batch in given[:warm_up]:
            search.levels.descend(*batch, means)

        def descend() -> None:
            for batch in given[warm_up:]:
                search.levels.descend(*batch, means)

        taken, peak = self.timed(descend)
        hours = taken / timed * steps(method.epochs, TRAIN // 2, size) / 3600
        name = "first" if order == 1 else "second"
        return Timed(f"DARTS: a step of {name} order", taken / timed, peak, hours)

    def network(self) -> nn.Module:
        """NSGA-Net's, as candidates are: not trained, in eval mode."""
        args = self.args.search(1, "auto")
        space = PhaseSpace(channels=args.channels)
        network = seeded(lambda: space.build(chosen(args)[0], normalization=self.data.normalization), 0)
        return network.to(self.device).to(memory_format=torch.channels_last).eval()

    def pgd(self) -> Timed:
        """In batches of the objective's size."""
        network = self.network()
        part = self.data.validation
        part = DevicePart.of(part.images[:5000], part.labels[:5000])
        error_under(network, batches(self.first(16), 8), PGD(steps=10))
        taken, peak = self.timed(lambda: error_under(network, batches(part, 250), PGD(steps=10)))
        return Timed(f"PGD-10 on {len(part):,} images", taken, peak)

    def evolution(self, name: str, attack: PixelAttack | ThresholdAttack) -> Timed:
        """Images that the network gets wrong are labelled with what it says, so that every one is attacked."""
        network = self.network()
        number = 2 if self.args.tiny else 64
        if self.args.tiny:
            attack = replace(attack, population=20, generations=2)
        (pixels, _), *_ = batches(self.first(number), number)
        with torch.no_grad():
            labels = network(pixels).argmax(dim=1)
        taken, peak = self.timed(lambda: attack.run(network, pixels, labels, self.generator()))
        return Timed(f"{name}: {number} images, {attack.population} x {attack.generations}", taken, peak)


def run_parts(args: Args, graphs: Graphs) -> list[Timed]:
    """All parts but the evaluations; for a process of its own."""
    os.environ[SWITCH] = graphs
    return [part() for part in Bench(args).parts()]


def evaluations(args: Args, graphs: Graphs) -> Iterator[Timed]:
    """An evaluation of 25 epochs, and all of them, by the time of eight, by each number of processes."""
    number = EvolutionConfig().evaluations
    for processes in args.at_once:
        settings = args.search(processes, graphs)
        measured = gpu_search.measure(settings, processes)
        scale = steps(PAPER.epochs, TRAIN) / steps(settings.epochs, settings.train_limit)
        each = measured.seconds / settings.genomes * scale
        part = f"evaluation, {PAPER.epochs} epochs, {processes} at once (ran {settings.epochs})"
        yield Timed(part, each, measured.peak_bytes, each * number / 3600)


def measure(args: Args) -> dict[str, list[Timed]]:
    """Parts of every mode; the evolutionary attacks once."""
    found: dict[str, list[Timed]] = {}
    for name, graphs in MODES.items():
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, context) as pool:
            parts = pool.submit(run_parts, args, graphs).result()
        found[name] = [*evaluations(args, graphs), *parts]
    return found


def table(found: dict[str, list[Timed]]) -> Table:
    shown = Table(title="seconds, hours of the paper's whole run, memory at its peak; as it is, and with CUDA graphs")
    for heading in ("part", "s", "s, graphs", "ratio", "h", "h, graphs", "GiB", "GiB, graphs"):
        shown.add_column(heading, justify="left" if heading == "part" else "right")
    graphed = {timed.part: timed for timed in found["with graphs"]}
    for plain in found["as it is"]:
        both = [plain, *([graphed[plain.part]] if plain.part in graphed else [])]
        columns = (
            [f"{each.seconds:.3f}" for each in both],
            ["" if each.hours is None else f"{each.hours:.2f}" for each in both],
            [f"{each.peak_bytes / 2**30:.2f}" if each.peak_bytes else "?" for each in both],
        )
        seconds, hours, peaks = ([*values, ""][:2] for values in columns)
        ratio = f"{plain.seconds / both[1].seconds:.2f}" if len(both) == 2 else ""
        shown.add_row(plain.part, *seconds, ratio, *hours, *peaks)
    return shown


def verdicts(found: dict[str, list[Timed]]) -> Iterator[tuple[bool, str]]:
    """Whether each goal is reached, and a line about it."""
    hours = {timed.part: timed.hours for timed in found["with graphs"] if timed.hours is not None}
    of = {
        "840 evaluations": min(each for part, each in hours.items() if part.startswith("evaluation")),
        "TAM-NAS's supernet": next(each for part, each in hours.items() if part.startswith("supernet")),
        "DARTS's search, second order": next(each for part, each in hours.items() if part.endswith("second order")),
    }
    for goal, most in HOURS.items():
        reached = of[goal] <= most
        yield reached, f"{goal}: {of[goal]:.2f} hours, at most {most:g} asked for: {'yes' if reached else 'NO'}"


def run_tests() -> tuple[bool, str]:
    """The tests that need a CUDA device, and their last line."""
    command = [sys.executable, "-m", "pytest", "-q", "-k", "cuda", "-p", "no:cacheprovider", *TESTS]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return ended.returncode == 0, (ended.stdout.strip() or ended.stderr.strip()).splitlines()[-1]


def main() -> int:
    code = 0

    def run() -> None:
        nonlocal code
        args = tyro.cli(Args, description=__doc__)
        resolve_device(args.device)  # a clear line where it is not there
        device = torch.device(args.device)
        console = Console(width=120, record=True)
        what = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"
        data = images(args.search(1, "auto"))
        console.print(f"{datetime.date.today()}, {what}, torch {torch.__version__}, data: {data.name}", highlight=False)
        passed, said = run_tests()
        console.print(f"tests of CUDA: {said}", highlight=False)
        found = measure(args)
        console.print(table(found))
        reached = [passed]
        for good, line in verdicts(found) if not args.tiny else ():
            console.print(line, highlight=False)
            reached.append(good)
        code = 0 if all(reached) else 1
        if args.write:
            page = f"{HEAD}\n```text\n{console.export_text()}```\n"
            PAGE.parent.mkdir(parents=True, exist_ok=True)
            replace_file(PAGE, lambda file: file.write(page.encode()))

    return guarded(run) or code


if __name__ == "__main__":
    sys.exit(main())
