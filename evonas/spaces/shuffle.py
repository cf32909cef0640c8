"""TAM-NAS's space: which block stands at each place, and how wide it is inside (III-B)."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from evonas.errors import ConfigurationError, choose
from evonas.networks.shuffle import BLOCKS, ShuffleNetwork, ShufflePlan, Unit
from evonas.networks.shuffle_supernet import ShuffleSupernet
from evonas.spaces.shuffle_costs import N_RATIOS, Tables, cost_tables, fixed_cost
from evonas.types import Cost, Genome, as_genome

__all__ = ["SHUFFLE_CROSSOVERS", "ShuffleSpace"]

STRIDE_2_BLOCKS = 6
"""Where the stride is 2 only blocks 0 to 5 fit: the others keep the size of their maps (III-E2)."""

PAPER = ShufflePlan()


@dataclass(frozen=True)
class ShuffleSpace:
    """ShuffleNetV2 blocks with squeeze-and-excitation and non-local parts, and their inner widths (TAM-NAS).

    A genome holds a block (0 to 21; 0 to 5 where the stride is 2) for every place, then a ratio (0 to 9 for 0.2 to 2.0)
    for every place. A genome whose parameters leave `window` is infeasible.
    """

    width: float = 1.0
    """Factor on the channels of Table I; a stem of 24 channels is rounded to a multiple of 4."""
    depth: float = 1.0
    """Factor on the blocks of stride 1 in each stage, 3, 7 and 3; at least one stays."""
    intermediate: int = 1
    """2 doubles the channels inside every block: the wider supernet, 2S."""
    window: tuple[float, float] | None = None
    """Fewest and most parameters of a feasible network with 10 classes, for the full plan; scales with the plan."""
    crossover_kind: str = "uniform"
    """uniform (gene by gene) or one_point."""
    crossover_rate: float = 0.9
    mutation_rate: float = 0.1
    """Chance of every gene to be drawn anew (III-E2)."""
    image_size: int = 32

    name: ClassVar[str] = "shuffle"

    def __post_init__(self) -> None:
        for name in ("width", "depth"):
            if not 0 < getattr(self, name) <= 8:
                raise ConfigurationError(f"expected {name} in (0, 8], got {getattr(self, name)!r}")
        if self.intermediate not in (1, 2):
            raise ConfigurationError(f"expected intermediate 1 or 2, got {self.intermediate!r}")
        for name in ("crossover_rate", "mutation_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigurationError(f"expected {name} in [0, 1], got {getattr(self, name)!r}")
        if not isinstance(self.image_size, int) or self.image_size < 1:
            raise ConfigurationError(f"expected a whole image_size >= 1, got {self.image_size!r}")
        choose(SHUFFLE_CROSSOVERS, self.crossover_kind, "crossover")
        if self.window is not None and not 0 <= self.window[0] < self.window[1] < math.inf:
            raise ConfigurationError(f"expected a window of parameters (fewest, most), got {self.window}")

    @cached_property
    def plan(self) -> ShufflePlan:
        return _plan(max(4, 4 * round(PAPER.stem * self.width / 4)), self.depth)

    @cached_property
    def n_places(self) -> int:
        return len(self.plan.places)

    @property
    def n_genes(self) -> int:
        return 2 * self.n_places

    @property
    def upper(self) -> Genome:
        return self._upper.copy()

    @cached_property
    def _upper(self) -> Genome:
        blocks = [STRIDE_2_BLOCKS - 1 if place.stride == 2 else len(BLOCKS) - 1 for place in self.plan.places]
        return np.array(blocks + [N_RATIOS - 1] * self.n_places, dtype=np.int64)

    def sample(self, n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """(n, n_genes) genomes, every gene uniform; whether they lie in the window is not asked."""
        return rng.integers(self._upper + 1, size=(n, self.n_genes), dtype=np.int64)

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
        """Two children that take each gene from one of their parents, complementary ones."""
        first, second = self._checked(a).copy(), self._checked(b).copy()
        if rng.random() < self.crossover_rate:
            swapped = SHUFFLE_CROSSOVERS[self.crossover_kind](self.n_genes, rng)
            first[swapped], second[swapped] = second[swapped], first[swapped]
        return first, second

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        """Every gene is drawn anew with chance `mutation_rate`; what is drawn may be what was there."""
        drawn = rng.integers(self._upper + 1, dtype=np.int64)
        return np.where(rng.random(self.n_genes) < self.mutation_rate, drawn, self._checked(genome))

    def canonical(self, genome: Genome) -> Genome:
        """Of ratios that give a block the same channels, the smallest; in the full plan all differ."""
        genes = self._checked(genome).copy()
        for place in range(self.n_places):
            mids = self._tables.mids[place][genes[place]]
            genes[self.n_places + place] = mids.index(mids[genes[self.n_places + place]])
        return genes

    def violation(self, genome: Genome) -> float:
        """How many parameters a genome with 10 classes is outside the window, in upper edges; <= 0 inside."""
        if self.window is None:
            self._checked(genome)
            return 0.0
        low, high = self.scaled(self.window)
        params = self.cost(genome).params
        return max(low - params, params - high, 0.0) / high

    def scaled(self, window: tuple[float, float]) -> tuple[float, float]:
        """A window of parameters of the full plan in this one: at the same place between smallest and largest."""
        (small, large), (smallest, largest) = _full_range(), self.params_range
        return tuple(  # type: ignore[return-value]
            smallest + (edge - small) / (large - small) * (largest - smallest) for edge in window
        )

    @cached_property
    def params_range(self) -> tuple[int, int]:
        """Parameters of the smallest and of the largest network, for 10 classes."""
        tables, fixed = self._tables, fixed_cost(self.plan, self.image_size, 10, 3).params
        table = tables.params.cost.reshape(self.n_places, -1)
        legal = [row[: (last + 1) * N_RATIOS] for row, last in zip(table, self.upper, strict=False)]
        return fixed + sum(int(row.min()) for row in legal), fixed + sum(int(row.max()) for row in legal)

    def units(self, genome: Genome) -> list[Unit]:
        """The choice blocks of a genome, as `ShuffleNetwork` takes them."""
        genes = self._checked(genome)
        blocks, ratios = genes[: self.n_places], genes[self.n_places :]
        return [
            Unit(BLOCKS[block], self._tables.mids[place][block][ratio])
            for place, (block, ratio) in enumerate(zip(blocks, ratios, strict=True))
        ]

    def build(
        self,
        genome: Genome,
        n_classes: int = 10,
        channels: int | None = None,
        in_channels: int = 3,
        normalization: tuple[Sequence[float], Sequence[float]] | None = None,
    ) -> ShuffleNetwork:
        """The network of a genome, from (B, in_channels, H, W) images in [0, 1] to (B, n_classes) logits.

        Args:
            channels: of the stem, a multiple of 4; the other widths follow. None: the space's own.
            normalization: (mean, deviation) per channel become the first layer; None, as in the paper: none.
        """
        other = self.with_stem(channels)
        return ShuffleNetwork(other.plan, other.units(genome), n_classes, in_channels, normalization)

    def supernet(
        self,
        n_classes: int = 10,
        in_channels: int = 3,
        normalization: tuple[Sequence[float], Sequence[float]] | None = None,
    ) -> ShuffleSupernet:
        """All choices of the space, each at ratio 2.0."""
        choices = [
            [Unit(kind, mids[-1]) for kind, mids in zip(BLOCKS[: last + 1], by_block, strict=False)]
            for by_block, last in zip(self._tables.mids, self.upper, strict=False)
        ]
        return ShuffleSupernet(self.plan, choices, n_classes, in_channels, normalization)

    def cost(
        self,
        genome: Genome,
        n_classes: int = 10,
        channels: int | None = None,
        in_channels: int = 3,
        image_size: int | None = None,
    ) -> Cost:
        """Parameters and MACs of the network, by lookup: nothing is built. Equal to the built network's."""
        other, size = self.with_stem(channels), self.image_size if image_size is None else image_size
        genes = other._checked(genome)
        choice = genes[: other.n_places] * N_RATIOS + genes[other.n_places :]
        tables, fixed = (
            cost_tables(other.plan, other.intermediate, size),
            fixed_cost(other.plan, size, n_classes, in_channels),
        )
        return Cost(fixed.params + tables.params.of(choice), fixed.macs + tables.macs.of(choice))

    def max_cost(
        self, n_classes: int = 10, channels: int | None = None, in_channels: int = 3, image_size: int | None = None
    ) -> Cost:
        """No genome has more parameters or MACs; one with the most of both need not exist."""
        other, size = self.with_stem(channels), self.image_size if image_size is None else image_size
        tables, fixed = (
            cost_tables(other.plan, other.intermediate, size),
            fixed_cost(other.plan, size, n_classes, in_channels),
        )
        most = [
            sum(int(row[: (last + 1) * N_RATIOS].max()) for row, last in zip(table.cost, other.upper, strict=False))
            for table in (tables.params, tables.macs)
        ]
        return Cost(fixed.params + most[0], fixed.macs + most[1])

    def describe(self, genome: Genome) -> str:
        """Block, ratio and inner channels of every place, e.g. `0: S+SE k3 x1.0 (24) /2 | 1: ...`."""
        genes = self._checked(genome)
        return " | ".join(
            f"{number}: {unit.kind.name} x{(ratio + 1) / 5:.1f} ({unit.mid}){' /2' if place.stride == 2 else ''}"
            for number, (unit, ratio, place) in enumerate(
                zip(self.units(genes), genes[self.n_places :], self.plan.places, strict=True)
            )
        )

    def with_stem(self, channels: int | None) -> "ShuffleSpace":
        """The same space with another stem; the other widths follow."""
        if channels is None or channels == self.plan.stem:
            return self
        if channels < 4 or channels % 4:
            raise ValueError(f"expected a multiple of 4 as channels of the stem, got {channels}")
        return ShuffleSpace(channels / PAPER.stem, self.depth, self.intermediate, image_size=self.image_size)

    @cached_property
    def _tables(self) -> Tables:
        return cost_tables(self.plan, self.intermediate, self.image_size)

    def _checked(self, genome: Any) -> Genome:
        genes = as_genome(genome, self.n_genes, self.name)
        if (genes < 0).any() or (genes > self._upper).any():
            raise ValueError(
                f"expected genes of 0 to {self.upper.tolist()} in space {self.name!r}, got {genes.tolist()}"
            )
        return genes


def _uniform(genes: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    return rng.random(genes) < 0.5


def _one_point(genes: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    return np.arange(genes) >= rng.integers(1, genes)


SHUFFLE_CROSSOVERS = {"uniform": _uniform, "one_point": _one_point}
"""Name -> (genes, rng) -> (genes,) which ones the children swap."""


@functools.lru_cache(maxsize=1)
def _full_range() -> tuple[int, int]:
    return ShuffleSpace().params_range


def _plan(stem: int, depth: float) -> ShufflePlan:
    repeats = [1 + max(1, round(depth * (blocks - 1))) for _, blocks in PAPER.stages]
    stages = tuple((stem * 2**number, blocks) for number, blocks in enumerate(repeats, start=1))
    first, second = (max(8, 8 * round(width * stem / PAPER.stem / 8)) for width in PAPER.head)
    return ShufflePlan(stem, stages, (first, second))
