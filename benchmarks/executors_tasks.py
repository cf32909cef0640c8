"""What the executors are given: a space, and tasks. Workers import it, so it is light."""

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from evonas.types import EvaluationResult, Genome, Report, arch_id

GENES, CHOICES = 12, 4
OBJECTIVES = ("error", "size")
BARRIER_SECONDS = 120.0


class Letters:
    """Genomes of 12 genes in 0..3, every one a network of its own: 16 million."""

    name = "letters"
    n_genes = GENES
    upper = np.full(GENES, CHOICES - 1, dtype=np.int64)

    def sample(self, n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        return rng.integers(CHOICES, size=(n, GENES), dtype=np.int64)

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
        mask = rng.random(GENES) < 0.5
        return np.where(mask, b, a), np.where(mask, a, b)

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        """One gene takes another value."""
        child = genome.copy()
        place = rng.integers(GENES)
        child[place] = (child[place] + rng.integers(1, CHOICES)) % CHOICES
        return child

    def canonical(self, genome: Genome) -> Genome:
        return genome

    def violation(self, genome: Genome) -> float:
        return 0.0


def chance(genome: Genome, what: str) -> float:
    """In [0, 1), drawn from the genome; another one for another purpose."""
    digest = hashlib.sha256(f"{what} {genome.tolist()}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def objectives(genome: Genome) -> dict[str, float]:
    """Two that are in conflict."""
    size = int(genome.sum())
    return {"error": chance(genome, "error") / (1 + size), "size": size}


def instant(genome: Genome, seed: int) -> EvaluationResult:
    """The least that an evaluation can do."""
    return EvaluationResult(tuple(genome), {"error": 0.0, "size": 0}, seed=seed)


@dataclass(frozen=True)
class Sleeping:
    """Evaluations that sleep for a time drawn from their genome; results say when they began and ended.

    Workers wait for one another when they are set up, so that none is idle because another one's process starts faster.

    Args:
        folder: empty; workers that are set up leave a file there.
        workers: that are waited for; further ones begin at once.
        shortest, longest: seconds, uniform between them.
    """

    folder: Path
    workers: int
    shortest: float = 0.1
    longest: float = 1.0

    def seconds(self, genome: Genome) -> float:
        return self.shortest + (self.longest - self.shortest) * chance(genome, "seconds")

    def make_evaluate(self, report: Report) -> Callable[[Genome, int], EvaluationResult]:
        (self.folder / str(os.getpid())).touch()
        until = time.monotonic() + BARRIER_SECONDS
        while len(os.listdir(self.folder)) < self.workers:
            if time.monotonic() > until:
                raise TimeoutError(f"expected {self.workers} workers, got {len(os.listdir(self.folder))}")
            time.sleep(0.002)
        return self._evaluate

    def _evaluate(self, genome: Genome, seed: int) -> EvaluationResult:
        begun = time.monotonic()  # one clock for all processes of a machine
        time.sleep(self.seconds(genome))
        moments = {"begun": begun, "ended": time.monotonic()}
        return EvaluationResult(tuple(genome), {**objectives(genome), **moments}, seed=seed)


@dataclass(frozen=True)
class Logged:
    """Evaluations that write into `file` when they begin and when they have ended.

    Args:
        life: number of the driver.
    """

    file: Path
    life: int
    longest: float

    def make_evaluate(self, report: Report) -> "Logged":
        return self

    def __call__(self, genome: Genome, seed: int) -> EvaluationResult:
        key = arch_id(genome)
        self._log("begin", key)
        time.sleep(self.longest * chance(genome, "seconds"))
        self._log("end", key)
        if chance(genome, "fails") < 1 / 8:
            raise ArithmeticError(f"one of those that fail, seed {seed}")
        return EvaluationResult(tuple(genome), objectives(genome), seed=seed)

    def _log(self, what: str, key: str) -> None:
        line = f"{self.life} {what} {key} {time.monotonic()} {os.getpid()}\n"  # one clock for the whole machine
        descriptor = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)


class Happened(NamedTuple):
    """A line of the evaluations' file."""

    life: int
    what: str
    key: str
    moment: float
    process: int


def happened(file: Path) -> list[Happened]:
    lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
    return [Happened(int(life), what, key, float(moment), int(pid)) for life, what, key, moment, pid in lines]


@contextmanager
def ray_here(slots: int) -> Iterator[None]:
    """A Ray of its own on this machine, with so many CPUs, whatever it has."""
    import ray

    ray.init("local", num_cpus=slots, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()
