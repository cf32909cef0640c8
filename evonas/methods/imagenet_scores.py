"""A network of cells on ImageNet's val/: top-1 and top-5 error, and the error under attack."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from evonas.attacks import PGD
from evonas.audit import ErrorUnder, Measurement
from evonas.data import Dataset, FilePart, ImageFolderSet, batches
from evonas.data.image_files import FileImages
from evonas.errors import DataError, DivergedError
from evonas.objectives.ood_aupr import OodAupr, OodImages, average_precision, chosen_images, ood_scores
from evonas.objectives.scoring import OnBatch, error_under
from evonas.parts import part_identity
from evonas.runs.screen import Screen
from evonas.seeding import generator

__all__ = ["ATTACK", "OodFiles", "PartScores", "attacked_files", "ood_files", "score_parts", "top_errors"]

ATTACK = PGD(epsilon=2 / 255, step_size=5 / 255, steps=10)
"""E2RNAS's, begun at the clean image; its steps are longer than its radius."""

AT_ONCE = 100
"""Images of a batch."""

PartScores = dict[str, dict[str, float]]
"""Images and attack -> column -> error."""


def attacked_files(data: ImageFolderSet, limit: int | None, pgd: bool, seed: int) -> FileImages:
    """Images of val/ to attack.

    Args:
        limit: size of a class-balanced subset; None: all of them with `pgd`, else none.
    Raises:
        DataError: the limit is below one image a class.
    """
    files = data.test
    if limit is None:
        return files.take(np.arange(len(files) if pgd else 0))
    if limit < data.n_classes:
        raise DataError(f"expected a test limit of at least one image a class ({data.n_classes}), got {limit}")
    drawn = generator("test limit", seed).permutation(len(files))
    order = drawn[np.argsort(files.labels[drawn], kind="stable")]  # class by class
    counts = np.bincount(files.labels, minlength=data.n_classes)
    rank = np.arange(len(files)) - np.repeat(np.cumsum(counts) - counts, counts)  # of an image in its class
    return files.take(np.sort(order[np.argsort(rank, kind="stable")[:limit]]))


class OodFiles(NamedTuple):
    """Images that AUPR is measured with, in its ratio."""

    ood: OodImages
    """Out-of-distribution images of any size, which are enlarged to that of the network's own ones."""
    own: FileImages
    """Files of val/."""

    @property
    def about(self) -> str:
        return (
            f"AUPR of {len(self.ood)} images of {self.ood.name} {self.ood.fingerprint[:8]} to {len(self.own)} own ones"
        )


def ood_files(data: ImageFolderSet, ood: Dataset, ratio: tuple[int, int], seed: int) -> OodFiles:
    """Test images of another data set and files of val/ in the ratio, as many as there are.

    Raises:
        DataError: too few of either.
    """
    others = OodImages(ood.name, ood.test.images)
    n_ood, n_own = OodAupr(others, ratio, len(data.test), seed).counts(len(data.test))
    chosen = others.images[chosen_images(len(others), n_ood, seed, "ood")]
    return OodFiles(
        OodImages(ood.name, np.ascontiguousarray(chosen)),
        data.test.take(chosen_images(len(data.test), n_own, seed, "own")),
    )


def _aupr(network: nn.Module, own: FilePart, ood: OodImages, on_batch: OnBatch | None = None) -> dict[str, float]:
    """ood_aupr: see `OodAupr`.

    Raises:
        DivergedError: logits that are not finite.
    """
    done = 0

    def enlarged() -> Iterator[tuple[Tensor, Tensor]]:
        for pixels in torch.from_numpy(ood.images).split(AT_ONCE):
            images = pixels.to(own.device).float().div_(255)
            yield functional.interpolate(images, (own.size, own.size), mode="bilinear"), images.new_zeros(len(images))

    def counted(part: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        nonlocal done
        for images, labels in part:
            yield images, labels
            done += len(labels)
            if on_batch is not None:
                on_batch(done)

    negative, positive = (ood_scores(network, counted(part)) for part in (batches(own, AT_ONCE), enlarged()))
    return {"ood_aupr": average_precision(positive, negative)}


def score_parts(
    network: nn.Module,
    clean: FilePart,
    attacked: FilePart,
    seed: int,
    scores: PartScores,
    keep: Callable[[PartScores], None],
    screen: Screen,
    ood: tuple[OodFiles, FilePart] | None = None,
    attacks: Sequence[Measurement] = (),
) -> dict[str, float]:
    """Errors of a network on clean images, and on attacked ones and its AUPR where there are images for them.

    Args:
        network: in eval mode on the device of the parts.
        seed: that the attacked images were chosen with.
        scores: found before; what is missing is added.
        keep: called with `scores` after each addition.
        ood: images of AUPR, and its own files as they are read.
        attacks: further errors on the attacked images.
    Raises:
        DivergedError: logits that are not finite.
    """
    wanted: dict[str, tuple[int, Callable[[OnBatch], dict[str, float]]]] = {
        "clean": (len(clean), lambda on_batch: top_errors(network, clean, on_batch))
    }
    if len(attacked):
        wanted[f"{ATTACK!r}, {len(attacked)} images of seed {seed}"] = (
            len(attacked),
            lambda on_batch: {"pgd_error": error_under(network, batches(attacked, AT_ONCE), ATTACK, on_batch=on_batch)},
        )
    for each in attacks:
        name = f"{each.column}({part_identity(each.measure)}), {len(attacked)} images of seed {seed}"
        wanted[name] = (len(attacked), partial(_error, network, attacked, each))
    if ood is not None:
        others, own = ood
        wanted[f"{others.about}, seed {seed}"] = (
            len(others.own) + len(others.ood),
            lambda on_batch: _aupr(network, own, others.ood, on_batch),
        )
    with screen:
        for name, (images, errors) in wanted.items():
            if name not in scores:
                scores[name] = errors(_showing(screen, name.split("(")[0], images))
                keep(scores)
    return {column: value for name in wanted for column, value in scores[name].items()}


def _error(network: nn.Module, attacked: FilePart, measurement: Measurement, on_batch: OnBatch) -> dict[str, float]:
    """Column -> error under a measurement's attack."""
    assert isinstance(measurement.measure, ErrorUnder)
    error = error_under(network, batches(attacked, AT_ONCE), measurement.measure.attack, on_batch=on_batch)
    return {measurement.column: error}


def top_errors(network: nn.Module, part: FilePart, on_batch: OnBatch | None = None) -> dict[str, float]:
    """top1_error and top5_error: shares of images whose class is not the likeliest, not among the five likeliest ones.

    Raises:
        DivergedError: logits that are not finite.
    """
    wrong, done = np.zeros(2, dtype=np.int64), 0
    for images, labels in batches(part, AT_ONCE):
        with torch.no_grad():
            logits = network(images)  # (B, K)
        if not bool(logits.isfinite().all()):
            raise DivergedError("training diverged: the network's logits are not finite")
        hits = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]  # (B, 5)
        wrong += [int((~hits[:, :1].any(dim=1)).sum()), int((~hits.any(dim=1)).sum())]
        done += len(labels)
        if on_batch is not None:
            on_batch(done)
    return {"top1_error": float(wrong[0] / done), "top5_error": float(wrong[1] / done)}


def _showing(screen: Screen, what: str, total: int) -> OnBatch:
    screen.say(f"scoring {total} images, {what}")
    return lambda done: screen.show(f"{done}/{total} images, {what}", done=done, total=total)
