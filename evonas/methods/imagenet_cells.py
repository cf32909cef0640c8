"""Found cells on a folder of images: where they are read, their network, its training and its weights file."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
from torch import Tensor

from evonas.data import Augmentation, FilePart, ImageFolderSet
from evonas.errors import ConfigurationError, StorageError
from evonas.files import expanded, read_json, replace_file
from evonas.methods.recipes import recipe_words
from evonas.networks.blocks import seeded
from evonas.networks.darts import GENOTYPES, DartsNetwork, Genotype
from evonas.report import shown
from evonas.seeding import derive_seed
from evonas.training import Training
from evonas.training.cells import CellPreset

__all__ = ["SIZE", "ImagenetCells", "cells_label", "read_cells"]

SIZE = 224
"""Height and width of images."""


def read_cells(given: str) -> Genotype:
    """Published cells by name, or those in a file that a search by gradient has written.

    Raises:
        ConfigurationError: neither.
    """
    if given in GENOTYPES:
        return GENOTYPES[given]
    try:
        values = read_json(expanded(given))
        names = [field.name for field in fields(Genotype)]
        if set(values) != set(names):
            raise ConfigurationError(f"expected {', '.join(names)} in it, got {', '.join(values) or 'nothing'}")
        return Genotype(**values)
    except (StorageError, ConfigurationError, TypeError) as error:
        cause = error.__cause__  # the system's own words; other errors say all there is
        reason = cause.strerror if isinstance(cause, OSError) else f"it is no such file ({error})"
        raise ConfigurationError(
            f"expected cells of {', '.join(GENOTYPES)}, or a genotype.json of a search by gradient, got {given!r}: "
            f"{reason}"
        ) from error


def cells_label(given: str) -> str:
    """Part of a run folder's name: that of the cells, or the search's folder and what the file has after `genotype`."""
    if given in GENOTYPES:
        return given
    path = expanded(given).absolute()
    return f"{path.parent.name}{path.stem.removeprefix('genotype')}"


@dataclass(frozen=True)
class ImagenetCells:
    """Found cells, and how they are trained on a folder of images."""

    given: str
    """Name or file, as the command line has it."""
    genotype: Genotype
    plan: CellPreset
    """Width, depth and training, with a resolved precision."""
    data: ImageFolderSet
    """Its train part is whole: nothing is held out."""
    seed: int

    def identity(self) -> dict[str, Any]:
        """Everything the weights follow from, besides the run's seed, device and threads."""
        data, recipe = self.data, self.plan.recipe
        return {
            "genotype": asdict(self.genotype),
            "channels": self.plan.channels,
            "layers": self.plan.layers,
            "image_size": SIZE,
            "data": {
                "name": data.name,
                "fingerprint": data.fingerprint,
                "n_classes": data.n_classes,
                "train": len(data.train),
                "test": len(data.test),
            },
            "training": self.plan.training.identity(),
            "recipe": {"name": recipe.name, **recipe.identity()},
        }

    def network(self, auxiliary: bool = False) -> DartsNetwork:
        """A network with initial weights; costs are those of the one without an auxiliary head."""
        build = partial(
            DartsNetwork,
            self.genotype,
            self.plan.channels,
            self.plan.layers,
            self.data.n_classes,
            auxiliary,
            normalization=self.data.normalization,
            stem="imagenet",
        )
        return cast(DartsNetwork, seeded(build, derive_seed(self.seed, "imagenet weights")))

    def training(self, part: FilePart) -> Training:
        """Training of a new network on the device of the images."""
        network = self.network(auxiliary=self.plan.recipe.auxiliary_weight > 0).to(part.device)
        drawn = torch.Generator(part.device).manual_seed(derive_seed(self.seed, "imagenet training"))
        augmentation = Augmentation(padding=0)  # crops, mirror images and colours come with reading
        return Training(network, part, augmentation, self.plan.training, self.plan.recipe, drawn)

    def opening(self, params: int) -> str:
        """Line before the first epoch."""
        robust = f", {recipe_words(self.plan.recipe)}" if self.plan.recipe.robust is not None else ""
        return (
            f"{self.given}: {self.plan.layers} cells of {self.plan.channels} channels, {shown('params', params)} "
            f"parameters, {self.plan.training.epochs} epochs of {len(self.data.train)} images, "
            f"{self.data.n_classes} classes{robust}"
        )

    def save(self, path: Path, weights: Mapping[str, Tensor]) -> None:
        """Write weights whole; the metadata, `evonas`, is JSON that says which `DartsNetwork` they belong to."""
        about = {
            "genotype": asdict(self.genotype),
            "channels": self.plan.channels,
            "layers": self.plan.layers,
            "stem": "imagenet",
            "n_classes": self.data.n_classes,
            "normalization": self.data.normalization,
        }
        tensors = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
        content = safetensors.torch.save(tensors, {"evonas": json.dumps(about)})
        replace_file(path, lambda file: file.write(content))
