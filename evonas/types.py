"""Types every room shares: genomes, costs, results of evaluations, and messages for the screen."""

import hashlib
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from evonas.errors import EvonasError

__all__ = [
    "Activity",
    "Cost",
    "Curve",
    "EvaluationResult",
    "Genome",
    "Note",
    "Progress",
    "Reach",
    "Report",
    "Space",
    "TrainOn",
    "Watch",
    "arch_id",
    "as_genome",
    "reason_of",
    "traceback_of",
]

Genome = npt.NDArray[np.int64]
"""(n_genes,) int64."""

TrainOn = Literal["train", "all"]
"""Images of a training to the end: those of the train part, or of all parts but the test part."""


class Cost(NamedTuple):
    """Size of a network."""

    params: int
    """Trainable parameters."""
    macs: int
    """Multiply-adds of convolutions, linear layers and matrix products for one image, each counted as one."""


@dataclass(frozen=True)
class Curve:
    """Learning curve of an evaluation, as far as early stopping asked for it."""

    epochs: int
    """Epochs of the whole training; 0 without training."""
    rungs: tuple[tuple[int, Mapping[str, float]], ...]
    """Finished epochs, and the columns measured after them, in natural values; several of these, ascending."""
    stopped: int | None = None
    """Finished epochs after which it could not enter the front any more; None: it still could at every rung."""
    entered: bool | None = None
    """Whether it entered the front of its time all the same, where it was finished to see that; else None."""


@dataclass(frozen=True)
class EvaluationResult:
    """Result of one evaluation, in natural values (an error of 0.07, not 7 percent; more macs are more)."""

    genome: tuple[int, ...]
    objectives: Mapping[str, float] = field(default_factory=dict)
    """Column name -> value, for everything measured, searched or not; empty after a failure, and what is final where it
    was stopped."""
    status: Literal["ok", "failed", "stopped"] = "ok"
    reason: str = ""
    """Cause of a failure or a stop in one line, else empty."""
    seed: int = 0
    """Seed that reproduces this result."""
    seconds: float = 0.0
    """Wall time of giving the network its weights (training); 0 without training."""
    curve: Curve | None = None
    """Learning curve, where early stopping asked for one."""

    traceback: ClassVar[str] = ""
    """Traceback of the exception behind a failed result, see `failure`. No part of its value, nor of the journal."""
    weights: ClassVar[bytes] = b""
    """File of the network's weights, where they may be kept; see `with_weights`. No part of its value either."""

    def __post_init__(self) -> None:
        if self.status not in ("ok", "failed", "stopped"):
            raise ValueError(f"expected status 'ok', 'failed' or 'stopped', got {self.status!r}")
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
        cls,
        genome: Sequence[int] | Genome,
        seed: int,
        cause: BaseException | str,
        seconds: float = 0.0,
        traceback: str = "",
    ) -> "EvaluationResult":
        """A failed result; its reason is `reason_of(cause)`, its traceback that of the cause, or the one given."""
        failed = cls(tuple(genome), {}, "failed", reason_of(cause), seed, seconds)
        return failed._with(traceback=traceback or traceback_of(cause))

    def changed(self, **values: Any) -> "EvaluationResult":
        """The result with other values, the same traceback and the same weights."""
        return replace(self, **values)._with(traceback=self.traceback, weights=self.weights)

    def with_weights(self, weights: bytes) -> "EvaluationResult":
        """The result on its way to the driver, with a file of the network's weights."""
        return self.changed()._with(weights=weights)

    def take_weights(self) -> bytes:
        """The file of weights, which the result holds no longer: there are many results, and weights are large."""
        weights: bytes = self.__dict__.pop("weights", b"")
        return weights

    def _with(self, **beside: str | bytes) -> "EvaluationResult":
        for name, value in beside.items():
            if value:
                object.__setattr__(self, name, value)
        return self


@dataclass(frozen=True)
class Progress:
    """Position of a running job. Shown on screen, never journalled; may be dropped."""

    key: str
    """Name of the job, e.g. the arch_id of the network."""
    done: int
    total: int
    unit: str = "step"
    note: str = ""


Report = Callable[[Progress], None]

Reach = Callable[[int, int, Mapping[str, float]], None]
"""(finished epochs, all epochs, column -> value as far as it is known). Raises StoppedEarly where that ends it."""


@dataclass(frozen=True)
class Activity:
    """Load of an executor. Shown on screen, never journalled."""

    running: int
    """Jobs that have started and not ended."""
    waiting: int
    """Jobs that were submitted and have not started."""
    slots: int
    """Jobs that can run at once."""
    nodes: int = 1
    """Machines that jobs can run on."""
    gpus: float = 0.0
    """GPUs in use by the running jobs, shares added up."""
    gpus_total: float = 0.0
    """GPUs within reach of the executor."""
    retries: int = 0
    """Attempts so far that repeated an earlier one, whatever the cause."""


@dataclass(frozen=True)
class Note:
    """One line for the user."""

    text: str


Watch = Callable[[Progress | Activity | Note], None]
"""Receives the messages of executors and jobs while they run."""


@runtime_checkable
class Space(Protocol):
    """A search space as the search sees it; `evonas.spaces` has the ones that build networks."""

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
        """The genome that represents every genome of the same network."""
        ...

    def violation(self, genome: Genome) -> float:
        """<= 0 for feasible genomes; larger is worse."""
        ...


def arch_id(canonical: Sequence[int] | Genome) -> str:
    """Name of an architecture: 16 hexadecimal digits of SHA-256 over its canonical genome's integers."""
    genes = canonical.tolist() if isinstance(canonical, np.ndarray) else map(int, canonical)
    return hashlib.sha256(" ".join(map(str, genes)).encode()).hexdigest()[:16]


def as_genome(genes: Any, n_genes: int, name: str) -> Genome:
    """`genes` as a (n_genes,) int64 genome; ValueError for anything that is not one."""
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


def reason_of(cause: BaseException | str) -> str:
    """Cause of a failure in one line of at most 500 characters, never empty.

    The message of an EvonasError; type and message of any other error.
    """
    if isinstance(cause, str):
        text = cause
    else:
        kind = type(cause).__name__
        try:
            text = str(cause) if isinstance(cause, EvonasError) else f"{kind}: {cause}".strip().rstrip(":")
        except Exception:  # an error without a readable message
            text = kind
    return " ".join(text[:500].split()) or "no reason was given"


def traceback_of(cause: BaseException | str) -> str:
    """The traceback of an exception as text; empty where only words are left of it."""
    return "" if isinstance(cause, str) else "".join(traceback.format_exception(cause))


def _plain(value: Any) -> float:
    number = float(value)  # OverflowError where it is too large to be compared
    return int(value) if isinstance(value, int | np.integer) else number
