"""Networks of 8-bit integers: static quantisation by onnxruntime, and what it does to errors and to latency."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evonas.attacks import PGD, SquareSearch
from evonas.seeding import derive_seed
from evonas.ship.checking import answers
from evonas.ship.latency import time_alternately
from evonas.ship.onnx_format import INPUT, OnnxNetwork, described

__all__ = ["PASSES", "QUANTISATION", "Rival", "median_latencies", "quantised", "rivals"]

QUANTISATION = "static, QDQ, signed 8-bit weights by channel, unsigned 8-bit activations, ranges by MinMax"
WARM_UP, PASSES = 20, 200
"""Passes of one image before latency counts, and those that count."""


@dataclass(frozen=True)
class Rival:
    """Errors of one of two networks that are compared, as shares of images."""

    clean_error: float
    pgd_error: float
    """On images that PGD makes against the float32 network: white-box there, transferred to the int8 one."""
    square_error: float
    """Under a black-box search against this network itself, through onnxruntime."""


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
            nodes_to_exclude=_kept_in_float(onnx.load(prepared)),
            activation_type=QuantType.QUInt8,  # x86 and Arm have kernels for unsigned times signed
            weight_type=QuantType.QInt8,
        )
        found = onnx.load(written)
    return described(found, {**about, "quantisation": f"{QUANTISATION}, {len(images)} images of the train part"})


def _kept_in_float(model: Any) -> list[str]:
    """Batch normalisations that no convolution could take in: their weights are vectors without channels."""
    return [node.name for node in model.graph.node if node.op_type == "BatchNormalization"]


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
    """Errors of ONNX files of one network.

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
    return {
        name: Rival(
            _error(each, images, labels),
            _error(each, moved, there[1]),
            _error(each, _square(epsilon, queries)(each, *there, _drawn()), there[1]),
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


def median_latencies(models: Mapping[str, bytes], image: Tensor) -> dict[str, float]:
    """Median milliseconds of a pass of one image on one thread; the ONNX files take turns.

    Args:
        image: (1, 3, H, W).
    """
    calls = [partial(OnnxNetwork(model), image) for model in models.values()]
    medians = np.median(time_alternately(calls, WARM_UP + PASSES)[:, WARM_UP:], axis=1)
    return {name: 1000 * float(median) for name, median in zip(models, medians, strict=True)}
