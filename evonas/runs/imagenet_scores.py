"""A network of cells on ImageNet's val/: top-1 and top-5 error, under attack, and what it costs."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from evonas.costs import count_macs, count_params
from evonas.data import FilePart, ImageFolderSet, batches
from evonas.data.image_files import FileImages
from evonas.errors import DataError, DivergedError
from evonas.objectives.scoring import OnBatch, error_under
from evonas.runs.imagenet_settings import ATTACK, ImagenetSettings
from evonas.runs.progress import PLAIN_PROGRESS_SECONDS
from evonas.seeding import generator
from evonas.spaces.darts_costs import paper_flops

__all__ = ["SIZE", "attacked_files", "results", "top_errors"]

SIZE = 224
"""Height and width of what networks see."""

SCORED_AT_ONCE = 100

Told = Callable[[str], None]
"""(a line for the screen, or nothing); called after every batch, and may raise."""


def results(
    network: nn.Module,
    settings: ImagenetSettings,
    data: ImageFolderSet,
    part: Callable[[FileImages], FilePart],
    scores: dict[str, dict[str, float]],
    keep: Callable[[Mapping[str, Mapping[str, float]]], None],
    told: Told,
) -> dict[str, Any]:
    """The columns of results.csv.

    Args:
        network: in eval mode on the device of the parts.
        part: puts files there.
        scores: what was scored before, by what it was scored on; what is missing is added.
        keep: called with `scores` after each addition.
    Raises:
        DivergedError: logits that are not finite.
    """
    attacked = attacked_files(data, settings)
    wanted: dict[str, tuple[FileImages, Callable[[OnBatch], dict[str, float]]]] = {
        "clean": (data.test, lambda on_batch: top_errors(network, part(data.test), on_batch))
    }
    if len(attacked):
        wanted[f"{ATTACK!r}, {len(attacked)} images of seed {settings.seed}"] = (
            attacked,
            lambda on_batch: {
                "pgd_error": error_under(network, batches(part(attacked), SCORED_AT_ONCE), ATTACK, None, on_batch)
            },
        )
    for name, (files, score) in wanted.items():
        if name not in scores:
            scores[name] = score(_telling(told, name.split("(")[0], len(files)))
            keep(scores)
    preset, shape = settings.network, (3, SIZE, SIZE)
    return {
        "cells": settings.cells,
        "channels": preset.channels,
        "layers": preset.layers,
        "epochs": preset.training.epochs,
        **{name: value for each in wanted for name, value in scores[each].items()},
        "images": len(data.test),
        "attacked_images": len(attacked),
        "params": count_params(network),
        "macs": count_macs(network, shape),
        "paper_flops": paper_flops(network, shape),
        "seed": settings.seed,
    }


def _telling(told: Told, what: str, total: int) -> OnBatch:
    last = time.monotonic()
    told(f"scoring {total} images, {what}")

    def on_batch(done: int) -> None:
        nonlocal last
        due = time.monotonic() - last > PLAIN_PROGRESS_SECONDS
        last = time.monotonic() if due else last
        told(f"  {done}/{total} images, {what}" if due else "")

    return on_batch


def attacked_files(data: ImageFolderSet, settings: ImagenetSettings) -> FileImages:
    """The images of val/ that are attacked: with a limit, as equally many of each class as there are.

    Raises:
        DataError: the limit is below one image a class.
    """
    files, limit = data.test, settings.test_limit
    if limit is None:
        return files.take(np.arange(len(files) if settings.pgd else 0))
    if limit < data.n_classes:
        raise DataError(f"expected a test limit of at least one image a class ({data.n_classes}), got {limit}")
    drawn = generator("test limit", settings.seed).permutation(len(files))
    order = drawn[np.argsort(files.labels[drawn], kind="stable")]  # class by class
    counts = np.bincount(files.labels, minlength=data.n_classes)
    rank = np.arange(len(files)) - np.repeat(np.cumsum(counts) - counts, counts)  # of an image in its class
    return files.take(np.sort(order[np.argsort(rank, kind="stable")[:limit]]))


def top_errors(network: nn.Module, part: FilePart, on_batch: OnBatch | None = None) -> dict[str, float]:
    """top1_error and top5_error: shares of images whose class is not the likeliest, not among the five likeliest ones.

    Raises:
        DivergedError: logits that are not finite.
    """
    wrong, done = np.zeros(2, dtype=np.int64), 0
    for images, labels in batches(part, SCORED_AT_ONCE):
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
