"""How well a candidate's confidence tells images of another data set from its own."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from evonas.data import Dataset, DevicePart, Part, batches
from evonas.errors import ConfigurationError, DataError, DivergedError
from evonas.objectives.objective import Candidate, Column, CostedSpace
from evonas.seeding import generator

__all__ = ["OodAupr", "OodImages", "average_precision"]

Images = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class OodImages:
    """Out-of-distribution images: those of a data set whose classes the candidate does not know.

    images: (N, 3, H, W) uint8. Compares by fingerprint.
    """

    name: str
    """The data set's."""
    images: Images

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != np.uint8:
            raise DataError(
                f"expected (N, 3, H, W) uint8 images that are out of distribution, "
                f"got {self.images.shape} {self.images.dtype}"
            )

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the name and these images, 32 hexadecimal digits."""
        digest = hashlib.sha256(repr((self.name, self.images.shape)).encode())
        digest.update(np.ascontiguousarray(self.images).data)
        return digest.hexdigest()[:32]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OodImages) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)


@dataclass(frozen=True)
class OodAupr:
    """Average precision of telling OoD images from validation images, in [0, 1], to be maximised (E2RNAS, AUPR).

    OoD images are the positive class and the score is minus the largest softmax probability, in float32; equal scores
    are one threshold. Guessing gives the share of OoD images, by default 1/6. The same images for every candidate.
    """

    name: ClassVar[str] = "ood_aupr"
    ood: OodImages
    ratio: tuple[int, int] = (1, 5)
    """OoD images to validation images. Where there are too few of either, there are fewer of both."""
    images: int | None = None
    """Use at most so many validation images; None: all."""
    seed: int = 0
    """Of the choice, where there are more images than the ratio takes."""
    batch_size: int = 500

    def __post_init__(self) -> None:
        if len(self.ratio) != 2 or min(self.ratio) < 1:
            raise ConfigurationError(f"expected a ratio of two numbers >= 1, got {self.ratio}")
        if self.batch_size < 1 or (self.images is not None and self.images < 1):
            raise ConfigurationError(f"expected batch_size and images >= 1, got {self.batch_size} and {self.images}")
        self.counts(self.ratio[1] if self.images is None else self.images)

    @classmethod
    def of(cls, ood: Dataset, data: Dataset, ratio: tuple[int, int] = (1, 5), seed: int = 0) -> "OodAupr":
        """Over the validation parts of two data sets: none of these images was trained on.

        It holds no more OoD images than it uses, and its column says how many of both these are.

        Raises:
            DataError: too few images, images of another size, or the same data set.
        """
        if ood.name == data.name:
            raise DataError(f"expected OoD images of another data set than {data.name}, got its own")
        _check_shape(ood.validation.images.shape[1:], data.validation.images.shape[1:])
        whole = cls(OodImages(ood.name, ood.validation.images), ratio, len(data.validation), seed)
        taken, _ = whole.counts(len(data.validation))
        chosen = ood.validation.images[_chosen(len(ood.validation), taken, seed, "ood")]
        return cls(OodImages(ood.name, np.ascontiguousarray(chosen)), ratio, len(data.validation), seed)

    def counts(self, validation: int) -> tuple[int, int]:
        """OoD and validation images that are used of so many validation images. DataError where there are too few."""
        share, of = self.ratio
        usable = validation if self.images is None else min(validation, self.images)
        units = min(len(self.ood) // share, usable // of)
        if units < 1:
            raise DataError(
                f"expected at least {share} OoD and {of} validation images for ood_aupr, "
                f"got {len(self.ood)} of {self.ood.name} and {usable}"
            )
        return units * share, units * of

    def columns(self, space: CostedSpace, n_classes: int) -> tuple[Column, ...]:
        ood, images = (None, None) if self.images is None else self.counts(self.images)
        share, of = self.ratio
        amount = f"{share}:{of}" if images is None else f"{ood}:{images}"
        return (
            Column(
                self.name,
                reference=0.0,
                maximize=True,
                about=f"average precision, {self.ood.name} to own {amount}",
                metadata={
                    "ood": self.ood.name,
                    "fingerprint": self.ood.fingerprint,
                    "score": "-max softmax",
                    "ratio": list(self.ratio),
                    "ood_images": ood,
                    "images": images,
                    "seed": self.seed,
                    "maximize": True,
                },
            ),
        )

    def __call__(self, candidate: Candidate) -> dict[str, float]:
        own, other = candidate.data.validation, _on(self.ood, candidate.device)
        _check_shape(tuple(other.images.shape[1:]), tuple(own.images.shape[1:]))
        n_ood, n_own = self.counts(len(own))
        parts = [
            _taken(own, _chosen(len(own), n_own, self.seed, "own")),
            _taken(other, _chosen(len(other), n_ood, self.seed, "ood")),
        ]
        inside, outside = (_scores(candidate.network, batches(part, self.batch_size)) for part in parts)
        return {self.name: average_precision(outside, inside)}


def average_precision(positive: Tensor, negative: Tensor) -> float:
    """Sum over thresholds of (recall gained) * precision; equal scores are one threshold, nothing is interpolated.

    Args:
        positive, negative: (n,) and (m,) scores, the larger the more positive; finite.
    """
    from sklearn.metrics import average_precision_score

    truth = np.concatenate([np.ones(len(positive), dtype=np.int64), np.zeros(len(negative), dtype=np.int64)])
    return float(average_precision_score(truth, torch.cat([positive, negative]).cpu().numpy()))


def _scores(network: nn.Module, part: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """(N,) minus the largest softmax probability of each image, on the CPU."""
    found = []
    with torch.no_grad():
        for images, _ in part:
            logits = network(images)  # (B, K)
            if not bool(logits.isfinite().all()):
                raise DivergedError("training diverged: the network's logits are not finite")
            found.append(-logits.float().softmax(dim=1).amax(dim=1).cpu())
    return torch.cat(found)


def _chosen(available: int, wanted: int, seed: int, purpose: str) -> Indices:
    """(wanted,) ascending indices, always the same."""
    drawn: Indices = np.sort(generator("ood_aupr", purpose, seed).permutation(available)[:wanted])
    return drawn


def _taken(part: DevicePart, indices: Indices) -> DevicePart:
    if len(indices) == len(part):
        return part
    at = torch.from_numpy(indices).to(part.labels.device)
    return DevicePart.of(part.images[at], part.labels[at])


def _check_shape(ood: tuple[int, ...], own: tuple[int, ...]) -> None:
    if ood != own:
        raise DataError(f"expected OoD images of the shape of the data's own, {own}, got {ood}")


@lru_cache(maxsize=4)
def _on(ood: OodImages, device: torch.device) -> DevicePart:
    """The images on a device, moved once per process."""
    return DevicePart(Part(ood.images, np.zeros(len(ood), dtype=np.int64)), device)
