"""Networks of 8-bit integers: static quantisation by onnxruntime, and what it does to errors and to latency."""

import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evonas.attacks import PGD, SquareSearch
from evonas.seeding import derive_seed
from evonas.ship.checking import answers
from evonas.ship.onnx_format import INPUT, OnnxNetwork, described

__all__ = ["QUANTISATION", "Rival", "quantised", "rivals"]

QUANTISATION = "static, QDQ, int8 weights by channel, int8 activations, ranges by MinMax"
WARM_UP, PASSES = 20, 200
"""Passes of one image before latency counts, and those that count."""


@dataclass(frozen=True)
class Rival:
    """One of two networks that are compared: errors as shares of images, and the latency of one image."""

    clean_error: float
    pgd_error: float
    """On images that PGD makes against the float32 network: white-box there, transferred to the int8 one."""
    square_error: float
    """Under a black-box search against this network itself, through onnxruntime."""
    milliseconds: float
    """Median of a pass of one image, on one thread."""
    bytes: int


def quantised(model: bytes, images: Tensor, about: Mapping[str, str]) -> bytes:
    """An ONNX file of float32 as one of int8; see `QUANTISATION`.

    Args:
        images: (N, 3, H, W) in [0, 1], whose activations give the ranges.
        about: lines of its metadata.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        given, prepared, written = (Path(folder, f"{name}.onnx") for name in ("given", "prepared", "int8"))
        given.write_bytes(model)
        quant_pre_process(given, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            written,
            _Reader(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
        )
        found = onnx.load(written)
    return described(found, {**about, "quantisation": f"{QUANTISATION}, {len(images)} images of the train part"})


class _Reader:
    """The images of calibration, in batches."""

    def __init__(self, images: Tensor) -> None:
        self.batches: Iterator[Tensor] = iter(images.split(32))

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self.batches, None)
        return None if batch is None else {INPUT: batch.numpy()}


def rivals(
    network: nn.Module,
    models: Mapping[str, bytes],
    images: Tensor,
    labels: Tensor,
    attacked: int,
    epsilon: float,
    queries: int,
) -> dict[str, Rival]:
    """Errors and latencies of ONNX files of one network.

    Args:
        network: as torch runs it; PGD follows its gradients.
        models: name -> bytes of a file.
        images, labels: of the test part.
        attacked: number of these that are attacked, the first ones.
        epsilon: radius of both attacks in L-inf.
        queries: passes of an image that the black-box search has.
    """
    there = images[:attacked], labels[:attacked]
    moved = _pgd(epsilon)(network, *there)
    found = {name: OnnxNetwork(model) for name, model in models.items()}
    milliseconds = _latencies(found, images[:1])
    return {
        name: Rival(
            _error(each, images, labels),
            _error(each, moved, there[1]),
            _error(each, _square(epsilon, queries)(each, *there, _drawn()), there[1]),
            milliseconds[name],
            len(models[name]),
        )
        for name, each in found.items()
    }


def _pgd(epsilon: float) -> PGD:
    return PGD(epsilon=epsilon, step_size=epsilon / 4, steps=20)


def _square(epsilon: float, queries: int) -> SquareSearch:
    return SquareSearch(epsilon=epsilon, queries=queries)


def _drawn() -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(0, "squares of an export"))


def _error(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    return float((answers(network, images, 128).argmax(1) != labels).double().mean())


def _latencies(networks: Mapping[str, nn.Module], image: Tensor) -> dict[str, float]:
    """Median milliseconds of a pass of one image; the networks take turns, so that a busy machine hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(WARM_UP + PASSES):
        for name, network in networks.items():
            begun = time.perf_counter()
            network(image)
            seconds[name].append(time.perf_counter() - begun)
    return {name: 1000 * statistics.median(taken[WARM_UP:]) for name, taken in seconds.items()}
