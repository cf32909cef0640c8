"""Measuring a latency table: every layer of a space by itself, then whole networks, which calibrate and test it."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from evonas.errors import ConfigurationError
from evonas.networks.blocks import seeded
from evonas.parts import as_plain, part_identity
from evonas.seeding import generator
from evonas.ship.latency import processor, set_threads, time_alternately, torch_call
from evonas.ship.latency_table import LatencyTable
from evonas.ship.layers import Call, layers_of
from evonas.types import Genome

__all__ = ["Effort", "measure_table", "network_of", "subject_of"]

Report = Callable[[str], object]

NORMALIZATION = ((0.5,) * 3, (0.25,) * 3)
"""Its values do not matter for time."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """Work that goes into a table."""

    networks: int = 30
    """Networks that calibrate it, and as many others that test it."""
    passes: int = 3
    """Passes over all layers."""
    calls: int = 10
    """Timed calls of a layer in a pass."""
    runs: int = 40
    """Rounds over the networks, at most."""
    seconds: float = 60.0
    """Processor time after which there are no more rounds than 10."""


def subject_of(space: Any, n_classes: int, image_size: int) -> dict[str, Any]:
    """Everything that decides which layers the networks of a space have."""
    search_only = getattr(space, "search_only", ())
    shape = {name: value for name, value in part_identity(space).items() if name not in search_only}
    return as_plain({"space": {"name": space.name, **shape}, "n_classes": n_classes, "image_size": image_size})


def network_of(space: Any, genome: Genome, n_classes: int) -> nn.Module:
    """The network of a genome in eval mode, with weights of no meaning; torch's generator is left as it was."""
    return seeded(lambda: space.build(genome, n_classes, normalization=NORMALIZATION), 0).eval()


def measure_table(
    space: Any, n_classes: int, image_size: int, effort: Effort | None = None, report: Report = lambda text: None
) -> LatencyTable:
    """Measure the layers of a space on this CPU, with one thread, and calibrate their sums on whole networks.

    A time is the shortest of many calls, in processor time: what an idle machine takes. Half of the networks calibrate,
    the others, which no coefficient was fitted on, give the error.

    Args:
        space: with `cover`, which names networks that have all layers.
        report: called with a few words on what is being done.
    Raises:
        ConfigurationError: the space does not say which networks have its layers, or has fewer than four networks.
    """
    if not hasattr(space, "cover"):
        raise ConfigurationError(
            f"expected a space whose method cover() names networks with all of its layers, {space.name!r} has none; "
            "latency_ms needs it"
        )
    effort = effort or Effort()
    with set_threads(1):
        calls: dict[str, Call] = {}
        covers = []
        for number, genome in enumerate(space.cover(), 1):
            covers.append(layers_of(network_of(space, genome, n_classes), image_size, calls))
            report(f"{len(calls)} layers in {number} networks")
        milliseconds = dict(_layer_times(calls, effort, report))
        networks = [network_of(space, genome, n_classes) for genome in _spread(space, n_classes, 2 * effort.networks)]
        counts = [layers_of(network, image_size) for network in networks]
        whole = _network_times(networks, image_size, effort, report)
    return _calibrated(subject_of(space, n_classes, image_size), milliseconds, counts, whole, covers)


def _layer_times(calls: Mapping[str, Call], effort: Effort, report: Report) -> Iterator[tuple[str, float]]:
    """(layer, milliseconds): the shortest of all calls."""
    shortest = dict.fromkeys(calls, float("inf"))
    with torch.inference_mode():
        for number in range(effort.passes):
            for done, (layer, call) in enumerate(calls.items(), 1):
                filled = call.filled()
                filled()
                seconds = time_alternately([filled], effort.calls, time.thread_time)
                shortest[layer] = min(shortest[layer], 1000 * float(seconds.min()))
                report(f"layer {done} of {len(calls)}, pass {number + 1} of {effort.passes}")
    yield from shortest.items()


def _network_times(
    networks: Sequence[nn.Module], image_size: int, effort: Effort, report: Report
) -> npt.NDArray[np.float64]:
    """(networks,) milliseconds: the shortest of all rounds."""
    images = torch.rand(1, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    calls = [torch_call(network, images) for network in networks]
    for call in calls:
        call()  # plans and buffers are made at the first call
    once = time_alternately(calls, 1, time.thread_time).sum()
    rounds = int(np.clip(effort.seconds / once, min(10, effort.runs), effort.runs))
    seconds = time_alternately(
        calls, rounds, time.thread_time, lambda done: report(f"whole networks, round {done} of {rounds}")
    )
    shortest: npt.NDArray[np.float64] = 1000 * seconds.min(axis=1)
    return shortest


def _spread(space: Any, n_classes: int, count: int) -> list[Genome]:
    """Different networks, from the smallest to the largest of many random ones, evenly by MACs."""
    defaults = {field.name: field.default for field in fields(space) if field.default is not MISSING}
    free = replace(space, **{name: defaults[name] for name in getattr(space, "search_only", ())})
    rng, found = generator(0, "latency networks"), dict[tuple[int, ...], Genome]()
    for genome in free.sample(20 * count, rng):
        if free.violation(genome) <= 0:
            canonical = free.canonical(genome)
            found[tuple(canonical.tolist())] = canonical
    genomes = sorted(found.values(), key=lambda genome: (free.cost(genome, n_classes).macs, genome.tolist()))
    if len(genomes) < 4:
        raise ConfigurationError(
            f"expected a space with at least four networks for latency_ms, {space.name!r} has {len(genomes)}"
        )
    macs = np.array([free.cost(genome, n_classes).macs for genome in genomes], dtype=float)
    left, chosen = list(range(len(genomes))), list[int]()
    for wanted in np.linspace(macs[0], macs[-1], min(count, len(genomes))):
        chosen.append(left.pop(int(np.argmin(np.abs(macs[left] - wanted)))))
    return [genomes[index] for index in sorted(chosen)]


def _calibrated(
    subject: dict[str, Any],
    milliseconds: dict[str, float],
    counts: Sequence[Counter[str]],
    whole: npt.NDArray[np.float64],
    covers: Sequence[Counter[str]],
) -> LatencyTable:
    """The table, its scale and overhead fitted on every other network in order of MACs, tested on the rest."""
    from scipy.optimize import nnls

    sums = [sum(milliseconds[layer] * count for layer, count in layers.items()) for layers in counts]
    features = np.array([[own, sum(layers.values())] for own, layers in zip(sums, counts, strict=True)])
    fit, test = slice(0, None, 2), slice(1, None, 2)
    (scale, overhead), _ = nnls(features[fit] / whole[fit, None], np.ones(len(whole[fit])))  # relative errors
    errors = np.abs(features[test] @ [scale, overhead] / whole[test] - 1)
    table = LatencyTable(
        subject=subject,
        processor=processor(),
        torch=torch.__version__,
        layers=milliseconds,
        scale=float(scale),
        overhead=float(overhead),
        calibrated_on=len(whole[fit]),
        tested_on=len(errors),
        median_error=float(np.median(errors)),
        p95_error=float(np.percentile(errors, 95)),
        slowest=0.0,
    )
    return replace(table, slowest=max(table.predict(layers) for layers in covers))
