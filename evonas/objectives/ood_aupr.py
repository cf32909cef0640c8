"""Detection of out-of-distribution (OoD) images by the confidence of a candidate."""

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

__all__ = ["OodAupr", "OodImages", "average_precision", "chosen_images", "ood_scores"]

Images = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class OodImages:
    """Images of a data set whose classes the candidate is not trained on. Compares by fingerprint."""

    name: str
    """Name of the data set."""
    images: Images
    """(N, 3, H, W) uint8."""

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
        """SHA-256 of name and images, 32 hexadecimal digits."""
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
    share a threshold. Guessing gives the share of OoD images, by default 1/6. All candidates see the same images.
    """

    name: ClassVar[str] = "ood_aupr"
    ood: OodImages
    ratio: tuple[int, int] = (1, 5)
    """OoD images to validation images; both numbers shrink if either kind runs short."""
    images: int | None = None
    """Largest number of validation images; None: all."""
    seed: int = 0
    """Seed of the choice among more images than the ratio takes."""
    batch_size: int = 500

    def __post_init__(self) -> None:
        if len(self.ratio) != 2 or min(self.ratio) < 1:
            raise ConfigurationError(f"expected a ratio of two numbers >= 1, got {self.ratio}")
        if self.batch_size < 1 or (self.images is not None and self.images < 1):
            raise ConfigurationError(f"expected batch_size and images >= 1, got {self.batch_size} and {self.images}")
        self.counts(self.ratio[1] if self.images is None else self.images)

    @classmethod
    def of(cls, ood: Dataset, data: Dataset, ratio: tuple[int, int] = (1, 5), seed: int = 0) -> "OodAupr":
        """Objective over the validation parts of two data sets, on which no candidate is trained.

        It holds only the OoD images that it uses, and its column states the numbers of both kinds.

        Raises:
            DataError: too few images, images of another size, or the same data set.
        """
        if ood.name == data.name:
            raise DataError(f"expected OoD images of another data set than {data.name}, got its own")
        _check_shape(ood.validation.images.shape[1:], data.validation.images.shape[1:])
        whole = cls(OodImages(ood.name, ood.validation.images), ratio, len(data.validation), seed)
        n_ood, _ = whole.counts(len(data.validation))
        chosen = ood.validation.images[chosen_images(len(ood.validation), n_ood, seed, "ood")]
        return cls(OodImages(ood.name, np.ascontiguousarray(chosen)), ratio, len(data.validation), seed)

    def counts(self, validation: int) -> tuple[int, int]:
        """Numbers of OoD and of validation images in use, of `validation` available ones.

        Raises:
            DataError: too few of either kind.
        """
        ood_share, own_share = self.ratio
        available = validation if self.images is None else min(validation, self.images)
        units = min(len(self.ood) // ood_share, available // own_share)
        if units < 1:
            raise DataError(
                f"expected at least {ood_share} OoD and {own_share} validation images for ood_aupr, "
                f"got {len(self.ood)} of {self.ood.name} and {available}"
            )
        return units * ood_share, units * own_share

    def columns(self, space: CostedSpace, n_classes: int) -> tuple[Column, ...]:
        ood, images = (None, None) if self.images is None else self.counts(self.images)
        amount = "{}:{}".format(*self.ratio) if images is None else f"{ood}:{images}"
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
        own, ood = candidate.data.validation, _on_device(self.ood, candidate.device)
        _check_shape(tuple(ood.images.shape[1:]), tuple(own.images.shape[1:]))
        n_ood, n_own = self.counts(len(own))
        parts = [
            _taken(own, chosen_images(len(own), n_own, self.seed, "own")),
            _taken(ood, chosen_images(len(ood), n_ood, self.seed, "ood")),
        ]
        negative, positive = (ood_scores(candidate.network, batches(part, self.batch_size)) for part in parts)
        return {self.name: average_precision(positive, negative)}


def average_precision(positive: Tensor, negative: Tensor) -> float:
    """Sum over thresholds of recall gain times precision; equal scores share a threshold, without interpolation.

    Args:
        positive, negative: (n,) and (m,) finite scores; a larger one is more positive.
    """
    from sklearn.metrics import average_precision_score

    truth = np.concatenate([np.ones(len(positive), dtype=np.int64), np.zeros(len(negative), dtype=np.int64)])
    return float(average_precision_score(truth, torch.cat([positive, negative]).cpu().numpy()))


def ood_scores(network: nn.Module, part: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """(N,) minus the largest softmax probability of each image, on the CPU."""
    scores = []
    with torch.no_grad():
        for images, _ in part:
            logits = network(images)  # (B, K)
            if not bool(logits.isfinite().all()):
                raise DivergedError("training diverged: the network's logits are not finite")
            scores.append(-logits.float().softmax(dim=1).amax(dim=1).cpu())
    return torch.cat(scores)


def chosen_images(available: int, wanted: int, seed: int, purpose: str) -> Indices:
    """(wanted,) ascending indices; a function of the arguments."""
    chosen: Indices = np.sort(generator("ood_aupr", purpose, seed).permutation(available)[:wanted])
    return chosen


def _taken(part: DevicePart, indices: Indices) -> DevicePart:
    if len(indices) == len(part):
        return part
    at = torch.from_numpy(indices).to(part.labels.device)
    return DevicePart.of(part.images[at], part.labels[at])


def _check_shape(ood: tuple[int, ...], own: tuple[int, ...]) -> None:
    if ood != own:
        raise DataError(f"expected OoD images of the shape of the data's own, {own}, got {ood}")


@lru_cache(maxsize=4)
def _on_device(ood: OodImages, device: torch.device) -> DevicePart:
    """Images on a device, moved once per process."""
    return DevicePart(Part(ood.images, np.zeros(len(ood), dtype=np.int64)), device)
