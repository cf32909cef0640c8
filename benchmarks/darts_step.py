"""How long a search step of DARTS takes on the CPU and how much memory, against the plain way, with equal gradients.

Claim: at 16 channels, 8 cells and batches of 64, in float32, a step of first order is at least 2.0 times as fast as the
plain way with at most 0.6 of its memory, a step of second order at least 3.0 times as fast.

    python benchmarks/darts_step.py                                          # about 10 minutes
    python benchmarks/darts_step.py --channels 4 --layers 3 --batch-size 16  # to try it; too small for the claim

A step is one of the architecture and one of the weights: two passes forward and backward in first order, five in
second. Plain is what darts_plain.py says. Every measurement has a process of its own, in turns: one step to warm up,
then the timed ones; memory is the most that was resident during the process less what was before its first step.

In bf16 the passes of the finite difference stay in float32, as it needs. Gradients are compared on a small batch:
in float64 both ways must agree to 1e-8 of them; how far float32 and bf16 are from float64 is printed for both.
"""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from darts_plain import PlainSupernet, alpha_gradient, gradient_of, loss_of
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional

from evonas.errors import ConfigurationError
from evonas.gradient.bilevel import direct_gradient, unrolled_gradient
from evonas.gradient.supernet import Architecture, DartsSupernet, SupernetPlan
from evonas.networks.blocks import seeded
from evonas.runs import guarded

RATE = 0.025
"""Of the weights; DARTS's."""
SPEED, MEMORY = {1: 2.0, 2: 3.0}, 0.6
AGREE = 1e-8


@dataclass(frozen=True, kw_only=True)
class Args:
    """Milliseconds and memory of DARTS's step, plain and ours."""

    channels: int = 16
    layers: int = 8
    batch_size: int = 64
    steps: int = 2
    """Timed ones of each process."""
    rounds: int = 1
    """Processes of each way and order, in turns."""
    threads: int = 0
    """Of each process; 0: torch's own choice."""
    compared: int = 8
    """Images whose gradients are compared; 0: none are."""

    def __post_init__(self) -> None:
        if min(self.batch_size, self.steps, self.rounds) < 1 or min(self.threads, self.compared) < 0:
            raise ConfigurationError("expected a batch size, steps and rounds >= 1, threads and compared >= 0")


@dataclass(frozen=True)
class Measured:
    milliseconds: list[float]
    """Of each step."""
    cpu: list[float]
    """The same of the processors alone, all threads together: where others use them, too, these compare better."""
    peak: int
    """Bytes."""


class Plain:
    """Both networks begin with the same weights."""

    name = "plain"

    def __init__(self, args: Args, dtype: torch.dtype = torch.float32) -> None:
        self.network = PlainSupernet(args.channels, args.layers)
        supernet, architecture = begun(args)
        self.network.load_state_dict(supernet.state_dict(), strict=False)
        with torch.no_grad():
            self.network.alpha.copy_(torch.stack([architecture.alpha_normal, architecture.alpha_reduce]))
        self.network.to(dtype)

    def gradients(self, train: Sequence[Tensor], validation: Sequence[Tensor], order: int) -> list[Tensor]:
        """Of alpha, and of the weights on the train batch."""
        of_alpha = alpha_gradient(self.network, train, validation, order, RATE)
        loss_of(self.network, train)
        weights = self.network.weights()
        return [of_alpha.flatten(), *(gradient_of(weights[name]) for name in sorted(weights))]


class Ours:
    name = "evonas"

    def __init__(self, args: Args, dtype: torch.dtype = torch.float32, bf16: bool = False) -> None:
        self.bf16 = bf16
        self.supernet, self.architecture = (each.to(dtype) for each in begun(args))
        self.supernet.to(memory_format=torch.channels_last)
        self.weights = [weight for _, weight in sorted(self.supernet.named_parameters())]

    def gradients(self, train: Sequence[Tensor], validation: Sequence[Tensor], order: int) -> list[Tensor]:
        buffers, alphas = list(self.supernet.buffers()), list(self.architecture.parameters())

        def upper() -> Tensor:
            return self._loss(validation, self.bf16)

        def lower() -> Tensor:
            return self._loss(train, bf16=False)

        if order == 1:
            found = direct_gradient([upper], self.weights, alphas, buffers)
        else:
            found = unrolled_gradient(lower, [upper], self.weights, alphas, RATE, buffers=buffers)
        self.architecture.requires_grad_(False)
        of_weights = torch.autograd.grad(self._loss(train, self.bf16), self.weights)
        self.architecture.requires_grad_(True)
        return [found.gradients[0], *of_weights]

    def _loss(self, batch: Sequence[Tensor], bf16: bool) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = self.supernet(batch[0], self.architecture())
        return functional.cross_entropy(logits.to(self.weights[0].dtype), batch[1])


WAYS: dict[str, Callable[[Args], Plain | Ours]] = {
    "plain fp32": Plain,
    "evonas fp32": Ours,
    "evonas bf16": lambda args: Ours(args, bf16=True),
}


def begun(args: Args) -> tuple[DartsSupernet, Architecture]:
    plan = SupernetPlan(channels=args.channels, layers=args.layers)
    supernet = seeded(lambda: DartsSupernet(plan), 0)
    assert isinstance(supernet, DartsSupernet)
    return supernet, Architecture(plan, torch.Generator().manual_seed(0))


def batches(n: int, dtype: torch.dtype = torch.float32) -> list[tuple[Tensor, Tensor]]:
    """One of training and one of validation."""
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.rand(n, 3, 32, 32, generator=generator).to(dtype), torch.randint(10, (n,), generator=generator))
        for _ in range(2)
    ]


def measure(way: str, order: int, args: Args) -> Measured:
    """In this process, which has not done anything before."""
    if args.threads:
        torch.set_num_threads(args.threads)
    part, (train, validation) = WAYS[way](args), batches(args.batch_size)
    before = status("VmRSS")
    milliseconds, cpu = [], []
    for _ in range(args.steps + 1):
        started, used = time.perf_counter(), time.process_time()
        part.gradients(train, validation, order)
        milliseconds.append(1e3 * (time.perf_counter() - started))
        cpu.append(1e3 * (time.process_time() - used))
    return Measured(milliseconds[1:], cpu[1:], status("VmHWM") - before)


def status(field: str) -> int:
    """Bytes that Linux tells of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def apart(found: Sequence[Tensor], exact: Sequence[Tensor]) -> list[float]:
    """Relative distances of alpha's gradient, and of all weights' together."""
    halves = [(found[:1], exact[:1]), (found[1:], exact[1:])]
    flat = [[torch.cat([each.double().flatten() for each in part]) for part in pair] for pair in halves]
    return [float((one - other).norm() / other.norm()) for one, other in flat]


def compare(args: Args, console: Console) -> bool:
    table = Table(title=f"distance from plain float64, relative; {args.compared} images")
    for heading in ("way", "order", "of alpha", "of weights"):
        table.add_column(heading, justify="left" if heading == "way" else "right", no_wrap=True)
    worst = 0.0
    for order in (1, 2):
        train, validation = batches(args.compared, torch.float64)
        exact = Plain(args, torch.float64).gradients(train, validation, order)
        double = apart(Ours(args, torch.float64).gradients(train, validation, order), exact)
        worst = max(worst, *double)
        table.add_row("evonas float64", str(order), *(f"{each:.1e}" for each in double))
        for name, make in WAYS.items():
            train, validation = batches(args.compared)
            single = apart(make(args).gradients(train, validation, order), exact)
            table.add_row(name, str(order), *(f"{each:.1e}" for each in single))
    console.print(table)
    return stated(worst <= AGREE, f"gradients agree to {worst:.1e} in float64 (at most {AGREE:.0e})", console)


def run(args: Args, console: Console) -> bool:
    held = [compare(args, console)] if args.compared else []
    found: dict[tuple[str, int], list[Measured]] = {}
    for _ in range(args.rounds):
        for order in (1, 2):
            for way in WAYS:
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    found.setdefault((way, order), []).append(pool.apply(measure, (way, order, args)))
    table = Table(title=f"a step: {args.channels} channels, {args.layers} cells, batches of {args.batch_size}")
    headings = ("way", "order", "ms, median", "least", "most", "CPU ms", "times as fast", "by CPU", "MB", "of plain")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "way" else "right", no_wrap=True)
    for (way, order), several in found.items():
        plain = found["plain fp32", order]
        spent, used = ([each for one in several for each in getattr(one, name)] for name in ("milliseconds", "cpu"))
        faster, by_cpu = (
            statistics.median(each for one in plain for each in getattr(one, name)) / statistics.median(own)
            for name, own in (("milliseconds", spent), ("cpu", used))
        )
        peak = max(one.peak for one in several)
        share = peak / max(one.peak for one in plain)
        table.add_row(
            way,
            str(order),
            *(f"{each:.0f}" for each in (statistics.median(spent), min(spent), max(spent))),
            f"{statistics.median(used):.0f}",
            f"{faster:.2f}",
            f"{by_cpu:.2f}",
            f"{peak / 1e6:.0f}",
            f"{share:.2f}",
        )
        if way == "evonas fp32":
            claim = f"order {order}: {faster:.2f} times as fast ({SPEED[order]})"
            held.append(stated(faster >= SPEED[order], claim, console))
            if order == 1:
                held.append(stated(share <= MEMORY, f"order {order}: {share:.2f} of the memory ({MEMORY})", console))
    console.print(table)
    return all(held)


def stated(holds: bool, text: str, console: Console) -> bool:
    console.print(f"{'holds' if holds else 'FAILS'}: {text}", highlight=False)
    return holds


def main() -> int:
    args = tyro.cli(Args, description=__doc__)
    held: list[bool] = []
    return guarded(lambda: held.append(run(args, Console(width=120)))) or int(not all(held))


if __name__ == "__main__":
    raise SystemExit(main())
