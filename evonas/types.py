"""The words every room shares: what a genome costs and what an evaluation found."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from evonas.errors import EvonasError

__all__ = [
    "Activity",
    "Cost",
    "EvaluationResult",
    "Genome",
    "Note",
    "Progress",
    "Report",
    "Space",
    "Watch",
    "arch_id",
    "as_genome",
]

Genome = npt.NDArray[np.int64]
"""(n_genes,) int64."""


class Cost(NamedTuple):
    """What a network costs."""

    params: int
    """Trainable parameters."""
    macs: int
    """Multiply-adds of convolutions, linear layers and matrix products for one image, each counted as one."""


@dataclass(frozen=True)
class EvaluationResult:
    """What one evaluation found, in natural values (an error of 0.07, not 7 percent; more macs are more)."""

    genome: tuple[int, ...]
    """The genome that was evaluated."""
    objectives: Mapping[str, float] = field(default_factory=dict)
    """Column name -> value, for everything that was measured, searched or not; empty where it failed."""
    status: Literal["ok", "failed"] = "ok"
    reason: str = ""
    """One line: why it failed; empty where it did not."""
    seed: int = 0
    """The seed that gives this result again."""
    seconds: float = 0.0
    """Wall time of giving the network its weights (training); 0 where nothing was trained."""

    def __post_init__(self) -> None:
        if self.status not in ("ok", "failed"):
            raise ValueError(f"expected status 'ok' or 'failed', got {self.status!r}")
        values = {str(name): _plain(value) for name, value in dict(self.objectives).items()}
        object.__setattr__(self, "genome", tuple(int(gene) for gene in self.genome))
        object.__setattr__(self, "objectives", values)
        object.__setattr__(self, "seed", int(self.seed))
        object.__setattr__(self, "seconds", float(self.seconds))
        object.__setattr__(self, "reason", " ".join(str(self.reason).split()))

    @property
    def ok(self) -> bool:
        return self.status == "ok"

    @classmethod
    def failure(
        cls, genome: Sequence[int] | Genome, seed: int, cause: BaseException | str, seconds: float = 0.0
    ) -> "EvaluationResult":
        """A failed result whose reason is one line: an error that explains itself, or its type and message."""
        if isinstance(cause, EvonasError):
            reason = str(cause)
        elif isinstance(cause, BaseException):
            try:
                reason = f"{type(cause).__name__}: {cause}".strip().rstrip(":")
            except Exception:  # an error whose message cannot be had
                reason = type(cause).__name__
        else:
            reason = cause
        return cls(tuple(genome), {}, "failed", reason[:500] or "no reason was given", seed, seconds)


@dataclass(frozen=True)
class Progress:
    """How far a running job is. Shown on screen, never journalled; may be dropped."""

    key: str
    """Name of the job, e.g. the arch_id of the network."""
    done: int
    total: int
    unit: str = "step"
    note: str = ""


Report = Callable[[Progress], None]


@dataclass(frozen=True)
class Activity:
    """What an executor is doing now. Shown on screen, never journalled."""

    running: int
    """Evaluations that have started and not ended."""
    waiting: int
    """Evaluations that were submitted and have not started."""
    slots: int
    """Evaluations that can run at once."""
    nodes: int = 1
    """Machines that evaluations can run on."""
    gpus: float = 0.0
    """GPUs that the running evaluations use, shares added up."""
    gpus_total: float = 0.0
    """GPUs that the executor knows of."""
    retries: int = 0
    """Evaluations that were started again so far, whatever the cause."""


@dataclass(frozen=True)
class Note:
    """Something that the user should know, in one line."""

    text: str


Watch = Callable[[Progress | Activity | Note], None]
"""Gets what executors and evaluations tell while they run."""


@runtime_checkable
class Space(Protocol):
    """What the search needs of a search space; `evonas.spaces` has the ones that build networks."""

    @property
    def name(self) -> str: ...
    @property
    def n_genes(self) -> int: ...
    @property
    def upper(self) -> Genome:
        """(n_genes,) largest value of each gene, inclusive; the smallest is 0."""
        ...

    def sample(self, n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """(n, n_genes) random genomes."""
        ...

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]: ...
    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome: ...
    def canonical(self, genome: Genome) -> Genome:
        """The one genome that stands for every genome of the same network."""
        ...

    def violation(self, genome: Genome) -> float:
        """<= 0 where the genome is feasible; larger is worse."""
        ...


def arch_id(canonical: Sequence[int] | Genome) -> str:
    """Name of an architecture: 16 hexadecimal digits of SHA-256 over its canonical genome's integers."""
    genes = canonical.tolist() if isinstance(canonical, np.ndarray) else map(int, canonical)
    return hashlib.sha256(" ".join(map(str, genes)).encode()).hexdigest()[:16]


def as_genome(genes: Any, n_genes: int, name: str) -> Genome:
    """`genes` as a (n_genes,) int64 genome, or a ValueError that says what came instead."""
    array = np.asarray(genes)
    if array.dtype == np.int64 and array.shape == (n_genes,):
        return array
    if array.shape != (n_genes,):
        raise ValueError(
            f"expected a genome of shape ({n_genes},) for space {name!r}, got {array.shape}; "
            "was it written by another space?"
        )
    with np.errstate(invalid="ignore"):  # NaN and what is too large are refused below
        whole = array.astype(np.int64)
    if not np.array_equal(whole, array):
        raise ValueError(f"expected integer genes for space {name!r}, got {array.tolist()}")
    return whole


def _plain(value: Any) -> float:
    number = float(value)  # OverflowError where it is too large to be compared
    return int(value) if isinstance(value, int | np.integer) else number
