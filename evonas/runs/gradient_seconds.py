"""What a step of the architecture costs under each metric of robustness, side by side (DSRNA, 4.3.1)."""

import time
from collections.abc import Callable
from dataclasses import replace

import torch

from evonas.gradient import METRICS, BoundLoss, CrossEntropy, JacobianLoss, Method, Sum
from evonas.gradient.levels import Levels
from evonas.gradient.losses import Batch, LevelLoss
from evonas.runs.gradient_cells import CellSearch, set_up

__all__ = ["metric_seconds", "seconds_of"]

LABELS = {"bound": "certified bound", "jacobian": "Jacobian"}


def metric_seconds(plan: CellSearch) -> str:
    """A line with the seconds of each metric on the first batch; empty for a search that descends none.

    The metric that is searched with keeps its settings; the other one has its own defaults and as many images. What a
    device has no room for says so.
    """
    own = _metric(plan.method)
    if own is None:
        return ""
    torch.set_num_threads(plan.threads)
    search = set_up(plan)
    images = own.images or plan.method.config.search_batch_size
    metrics = {name: own if name == own.name else replace(each, images=own.images) for name, each in METRICS.items()}
    below, above = next(search.batches())
    seconds_of(search.levels, (CrossEntropy(),), below, above)  # the first one is slow
    alone = seconds_of(search.levels, (CrossEntropy(),), below, above)
    words = []
    for name, metric in metrics.items():
        try:
            seconds = seconds_of(search.levels, (Sum((metric, CrossEntropy())),), below, above)
        except torch.OutOfMemoryError:
            words.append(f"{LABELS[name]}: no room")
        else:
            words.append(f"{LABELS[name]} {seconds - alone:.3g} s a step")
    return f"{', '.join(words)}; of {images} images, beside {alone:.3g} s of the validation loss (each measured once)"


def seconds_of(levels: Levels, upper: tuple[LevelLoss, ...], below: Batch, above: Batch) -> float:
    """Of one gradient of the architecture under these upper losses; changes nothing."""
    method = replace(levels.method, upper=upper)
    trial = Levels(method, levels.supernet, levels.architecture, levels.precision)
    trial.begin_epoch(levels.rate, 0.0, torch.Generator(levels.device).manual_seed(0))
    batch = replace(above, epsilon=trial.epsilon)
    return _seconds(lambda: trial.upper_gradients(below, batch), levels.device)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _metric(method: Method) -> BoundLoss | JacobianLoss | None:
    parts = [part for loss in method.upper for part in getattr(loss, "parts", (loss,))]
    return next((part for part in parts if isinstance(part, BoundLoss | JacobianLoss)), None)
