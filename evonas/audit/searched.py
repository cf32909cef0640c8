"""A network with the weights that its search scored it with: as they were kept, or given to it again from its seed."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from evonas.data import Dataset, DeviceData
from evonas.errors import DataError
from evonas.evaluation import Prepare
from evonas.files import decoding, read_regular, storage_errors
from evonas.objectives import Candidate
from evonas.parts import digest
from evonas.seeding import derive_seed
from evonas.ship import Provenance, WeightsCard, parse_weights, read_weights, space_settings, weights_file
from evonas.types import Cost, Genome, Report, arch_id

__all__ = ["AsSearched"]


@dataclass(frozen=True, kw_only=True)
class AsSearched:
    """The weights of one network of a search; an audit takes it where a `FinalTraining` could stand.

    A search that trains each candidate trains it again; on the CPU the weights are those that were scored, bit for bit.
    """

    prepare: Prepare
    """Gave candidates their weights."""
    provenance: Provenance
    """Origin of the weights, as their file states it."""
    seed: int
    """Seed of the evaluation."""
    device: str = "cpu"
    threads: int = 1

    @property
    def space(self) -> Any:
        return self.prepare.space

    @property
    def data(self) -> Dataset:
        return self.prepare.data

    @property
    def epochs(self) -> int | None:
        """Passes over the train part; None: the weights are inherited."""
        return self.prepare.epochs

    def settings(self) -> dict[str, Any]:
        """Columns of tables that say how the network was trained."""
        shape = {name: getattr(self.space, name) for name in ("channels", "layers") if hasattr(self.space, name)}
        return {**shape, "epochs": self.epochs}

    def cost(self, genome: Genome) -> Cost:
        return Cost(*self.space.cost(genome, self.data.n_classes))

    def train(self, genome: Genome, report: Report, checkpoint: Path | None = None) -> tuple[bytes, float]:
        """A file of the weights, given to the network again from its seed, and the seconds that this took."""
        torch.set_num_threads(self.threads)
        candidate, seconds = self.prepare.start()(genome, self.seed, report)
        shape, normalization = self.data.train.images.shape[1:], self.prepare.normalization
        network, classes = candidate.network, self.data.n_classes
        card = WeightsCard.of(network, self.space, genome, classes, shape, normalization, self.provenance)
        return weights_file(network, card), seconds

    def read(self, genome: Genome, path: Path) -> bytes:
        """The content of a file of kept weights, every bit of it checked. DataError where it is another network's."""
        card = read_weights(path).card
        found = card.space, card.genome, replace(card.provenance, evonas=self.provenance.evonas)
        with decoding(f"expected weights of {arch_id(genome)} in {path}", "remove it, and it is trained again"):
            if found != (space_settings(self.space), tuple(genome.tolist()), self.provenance):
                raise DataError("they are of another network or run")
        with storage_errors(f"read {path}"):
            return read_regular(path)

    def candidate(self, genome: Genome, weights: bytes) -> Candidate:
        """The network with weights that `train` or `read` gave, in eval mode on the device."""
        torch.set_num_threads(self.threads)
        data = DeviceData(self.data, torch.device(self.device))
        network = parse_weights(weights).network(self.space).to(data.device)
        drawn = torch.Generator(data.device).manual_seed(derive_seed(self.seed, "audit"))
        return Candidate(network, genome, self.space, data, self.cost(genome), drawn)

    def checkpoint(self, folder: Path, genome: Genome) -> None:
        """None: it is trained in one piece, as in the search."""

    @cached_property
    def digest(self) -> str:
        """Digest of everything the weights follow from, besides the genome."""
        return digest({"search": self.provenance.identity, "seed": self.seed})
