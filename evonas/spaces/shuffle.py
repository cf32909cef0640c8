"""The space of TAM-NAS: a block and its inner width at each place (III-B)."""

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from evonas.errors import ConfigurationError, choose
from evonas.networks.shuffle_plan import BLOCKS, ShufflePlan, Unit
from evonas.spaces.shuffle_costs import N_RATIOS, Tables, cost_tables, fixed_cost
from evonas.types import Cost, Genome, as_genome

if TYPE_CHECKING:
    from evonas.networks.shuffle import ShuffleNetwork
    from evonas.networks.shuffle_supernet import ShuffleSupernet

__all__ = ["SHUFFLE_CROSSOVERS", "ShuffleSpace"]

STRIDE_2_BLOCKS = 6
"""Number of blocks for places of stride 2, blocks 0 to 5; the others keep the size of their maps (III-E2)."""

PAPER = ShufflePlan()


@dataclass(frozen=True)
class ShuffleSpace:
    """ShuffleNetV2 blocks with squeeze-and-excitation and non-local parts, and their inner widths (TAM-NAS).

    A genome lists a block (0 to 21; 0 to 5 at stride 2) for every place, then a ratio (0 to 9 for 0.2 to 2.0) for every
    place. A genome with parameters outside `window` is infeasible.
    """

    width: float = 1.0
    """Factor on the channels of Table I; the stem (24 channels at 1) is rounded to a multiple of 4."""
    depth: float = 1.0
    """Factor on the number of blocks of stride 1 in each stage: 3, 7 and 3 at 1; at least 1."""
    intermediate: int = 1
    """Factor on the inner channels of every block, 1 or 2 (the wider supernet, 2S)."""
    window: tuple[float, float] | None = None
    """Bounds on the parameters of feasible networks (10 classes) in the full plan; scaled for smaller plans."""
    crossover_kind: str = "uniform"
    """uniform (gene by gene) or one_point."""
    crossover_rate: float = 0.9
    """Probability of crossover of a pair of parents."""
    mutation_rate: float = 0.1
    """Probability of resampling, for every gene (III-E2)."""
    image_size: int = 32
    """Height and width of the images."""

    name: ClassVar[str] = "shuffle"
    depthwise: ClassVar[bool] = True
    """Most of its convolutions are depthwise, for which bf16 is slower on a CPU."""
    search_only: ClassVar[tuple[str, ...]] = ("window", "crossover_kind", "crossover_rate", "mutation_rate")
    """Fields that change the search, and no network."""

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
        """(n, n_genes) genomes, every gene uniform, inside or outside the window."""
        return rng.integers(self._upper + 1, size=(n, self.n_genes), dtype=np.int64)

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
        """Two complementary children, with each gene from either parent."""
        first, second = self._checked(a).copy(), self._checked(b).copy()
        if rng.random() < self.crossover_rate:
            swapped = SHUFFLE_CROSSOVERS[self.crossover_kind](self.n_genes, rng)
            first[swapped], second[swapped] = second[swapped], first[swapped]
        return first, second

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        """Resample every gene with probability `mutation_rate`; a new value may equal the old one."""
        resampled = rng.integers(self._upper + 1, dtype=np.int64)
        return np.where(rng.random(self.n_genes) < self.mutation_rate, resampled, self._checked(genome))

    def canonical(self, genome: Genome) -> Genome:
        """Replace each ratio by the smallest one with the same inner channels; in the full plan all differ."""
        genes = self._checked(genome).copy()
        for place in range(self.n_places):
            mids = self._tables.mids[place][genes[place]]
            genes[self.n_places + place] = mids.index(mids[genes[self.n_places + place]])
        return genes

    def choices(self, genome: Genome | None = None) -> set[tuple[int, int, int]]:
        """(place, block, ratio) of a genome, or of all genomes, in canonical form."""
        if genome is not None:
            genes = self.canonical(genome).tolist()
            return set(zip(range(self.n_places), genes[: self.n_places], genes[self.n_places :], strict=True))
        return {
            (place, block, mids.index(mid))
            for place, by_block in enumerate(self._tables.mids)
            for block, mids in enumerate(by_block[: self._upper[place] + 1])
            for mid in mids
        }

    def cover(self) -> Iterator[Genome]:
        """Genomes whose networks have every layer of the space between them, the slowest network among them.

        One for each block and ratio, which stand at every place; inside or outside the window.
        """
        for block in range(len(BLOCKS)):
            for ratio in range(N_RATIOS):
                yield np.minimum(self._upper, np.repeat([block, ratio], self.n_places))

    def violation(self, genome: Genome) -> float:
        """Distance of the parameters (10 classes) from the window, relative to its upper edge; <= 0 inside."""
        if self.window is None:
            self._checked(genome)
            return 0.0
        low, high = self.scaled(self.window)
        params = self.cost(genome).params
        return max(low - params, params - high, 0.0) / high

    def scaled(self, window: tuple[float, float]) -> tuple[float, float]:
        """The window of the full plan at the same place between smallest and largest network of this plan."""
        (small, large), (smallest, largest) = _full_range(), self.params_range
        return tuple(  # type: ignore[return-value]
            smallest + (edge - small) / (large - small) * (largest - smallest) for edge in window
        )

    @cached_property
    def params_range(self) -> tuple[int, int]:
        """Parameters of the smallest and of the largest network, with 10 classes."""
        tables, fixed = self._tables, fixed_cost(self.plan, self.image_size, 10, 3).params
        table = tables.params.cost.reshape(self.n_places, -1)
        legal = [row[: (last + 1) * N_RATIOS] for row, last in zip(table, self.upper, strict=False)]
        return fixed + sum(int(row.min()) for row in legal), fixed + sum(int(row.max()) for row in legal)

    def units(self, genome: Genome) -> list[Unit]:
        """Choice blocks of a genome, the argument of `ShuffleNetwork`."""
        genes = self._checked(genome)
        blocks, ratios = genes[: self.n_places], genes[self.n_places :]
        return [
            Unit(BLOCKS[block], self._tables.mids[place][block][ratio])
            for place, (block, ratio) in enumerate(zip(blocks, ratios, strict=True))
        ]

    def ratios(self, genome: Genome) -> list[float]:
        """Ratio of the inner width at every place, 0.2 to 2.0."""
        return [(gene + 1) / 5 for gene in self._checked(genome)[self.n_places :].tolist()]

    def build(
        self,
        genome: Genome,
        n_classes: int = 10,
        channels: int | None = None,
        in_channels: int = 3,
        normalization: tuple[Sequence[float], Sequence[float]] | None = None,
    ) -> "ShuffleNetwork":
        """Network of a genome, from (B, in_channels, H, W) images in [0, 1] to (B, n_classes) logits.

        Args:
            channels: width of the stem, a multiple of 4, which the other widths follow; None: that of the space.
            normalization: (mean, deviation) per channel become the first layer; None: no normalisation, as in the
                paper.
        """
        from evonas.networks.shuffle import ShuffleNetwork

        space = self.with_stem(channels)
        return ShuffleNetwork(space.plan, space.units(genome), n_classes, in_channels, normalization)

    def supernet(
        self,
        n_classes: int = 10,
        in_channels: int = 3,
        normalization: tuple[Sequence[float], Sequence[float]] | None = None,
    ) -> "ShuffleSupernet":
        """Supernet of all choices of the space, each at ratio 2.0."""
        from evonas.networks.shuffle_supernet import ShuffleSupernet

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
        """Parameters and MACs of the network by table lookup, equal to those of the built network."""
        space, size = self.with_stem(channels), self.image_size if image_size is None else image_size
        genes = space._checked(genome)
        choice = genes[: space.n_places] * N_RATIOS + genes[space.n_places :]
        tables = cost_tables(space.plan, space.intermediate, size)
        fixed = fixed_cost(space.plan, size, n_classes, in_channels)
        return Cost(fixed.params + tables.params.of(choice), fixed.macs + tables.macs.of(choice))

    def max_cost(
        self, n_classes: int = 10, channels: int | None = None, in_channels: int = 3, image_size: int | None = None
    ) -> Cost:
        """Largest parameters and largest MACs of all genomes; not necessarily of the same genome."""
        space, size = self.with_stem(channels), self.image_size if image_size is None else image_size
        tables = cost_tables(space.plan, space.intermediate, size)
        fixed = fixed_cost(space.plan, size, n_classes, in_channels)
        most = [
            sum(int(row[: (last + 1) * N_RATIOS].max()) for row, last in zip(table.cost, space.upper, strict=False))
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
        """The same space with another width of the stem, which the other widths follow."""
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
"""Name -> function of (genes, rng) -> (genes,) mask of the genes to swap."""


@functools.lru_cache(maxsize=1)
def _full_range() -> tuple[int, int]:
    return ShuffleSpace().params_range


def _plan(stem: int, depth: float) -> ShufflePlan:
    repeats = [1 + max(1, round(depth * (blocks - 1))) for _, blocks in PAPER.stages]
    stages = tuple((stem * 2**number, blocks) for number, blocks in enumerate(repeats, start=1))
    first, second = (max(8, 8 * round(width * stem / PAPER.stem / 8)) for width in PAPER.head)
    return ShufflePlan(stem, stages, (first, second))
