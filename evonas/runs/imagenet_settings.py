"""What found cells are trained on ImageNet with: the command line is made from it, and config.json keeps it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from evonas.attacks import PGD
from evonas.errors import ConfigurationError, StorageError
from evonas.files import read_json
from evonas.networks.darts import GENOTYPES, Genotype, cell_places
from evonas.training import IMAGENET_CELLS, CellPreset, CellTraining, TrainingConfig

__all__ = ["ATTACK", "IMAGENET_PRESETS", "ImagenetSettings", "cells_label", "read_cells"]

ATTACK = PGD(epsilon=2 / 255, step_size=5 / 255, steps=10)
"""E2RNAS's, begun at the clean image; see `evonas.audit.CellScoring` about its long steps."""


@dataclass(frozen=True, kw_only=True)
class ImagenetSettings:
    """Cells that a search has found, trained and scored on ImageNet (DARTS, 3.3; E2RNAS v2, Table V)."""

    preset: Literal["quick", "paper"] = "quick"
    """quick: a small network and few epochs, for a look. paper: 14 cells of 48 channels, 250 epochs."""
    cells: str = "DARTS_V2"
    """DARTS_V1, DARTS_V2, PDARTS, PC_DARTS_cifar, PC_DARTS_image, or the genotype.json of a search."""
    data_root: Path | None = None
    """The folder that holds imagenet/train and imagenet/val; else the variable EVONAS_DATA, else ./data."""
    seed: int = 0
    network: CellPreset = IMAGENET_CELLS
    test_limit: int | None = None
    """Attack a class-balanced subset of so many images of val/ by PGD; without it, and without --pgd, none is."""
    pgd: bool = False
    """Attack images of val/, all of them unless --test-limit is given."""
    device: str = "auto"
    """auto (CUDA where there is one), cpu, cuda or cuda:N."""
    threads: int | None = None
    """CPU threads; unless given, as many as there are processors."""
    workers: int | None = None
    """Processes that decode images, and change no result; unless given, a GPU has one for each processor, up to 16.
    They need about 40 MB each in /dev/shm."""
    out: Path | None = None
    """The run's folder; runs/imagenet-CELLS-PRESET-seedN unless given."""

    def __post_init__(self) -> None:
        for name, least in (("test_limit", 1), ("threads", 1), ("workers", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigurationError(f"expected {name} >= {least}, got {value}")
        cell_places(self.network.channels, self.network.layers, stem="imagenet")  # refuses what cannot be built
        if self.network.layers < 2:  # the auxiliary head needs maps that are halved twice
            raise ConfigurationError(f"expected layers >= 2, got {self.network.layers}")


IMAGENET_PRESETS = {
    "quick": ImagenetSettings(
        network=CellPreset(
            channels=16,
            layers=5,
            training=TrainingConfig(epochs=3, batch_size=64, lr=0.05, weight_decay=3e-5),
            recipe=CellTraining(drop_path=0.0, label_smoothing=0.1),
        )
    ),
    "paper": ImagenetSettings(preset="paper"),
}


def read_cells(given: str) -> Genotype:
    """Published cells by name, or those in a file that a search by gradient has written.

    Raises:
        ConfigurationError: neither.
    """
    if given in GENOTYPES:
        return GENOTYPES[given]
    try:
        return _genotype(read_json(Path(given).expanduser()))
    except (StorageError, ConfigurationError, TypeError) as error:
        refused = error.__cause__  # the system's own word; other errors say all there is
        reason = refused.strerror if isinstance(refused, OSError) else f"it is no such file ({error})"
        raise ConfigurationError(
            f"expected cells of {', '.join(GENOTYPES)}, or a genotype.json of a search by gradient, got {given!r}: "
            f"{reason}"
        ) from error


def _genotype(values: Mapping[str, Any]) -> Genotype:
    names = [field.name for field in fields(Genotype)]
    if set(values) != set(names):
        raise ConfigurationError(f"expected {', '.join(names)} in it, got {', '.join(values) or 'nothing'}")
    return Genotype(**values)


def cells_label(given: str) -> str:
    """Of a run's folder: the name, or that of the search's folder with what its file's name has beyond `genotype`."""
    if given in GENOTYPES:
        return given
    path = Path(given).expanduser().absolute()
    return f"{path.parent.name}{path.stem.removeprefix('genotype')}"
