"""Everything that CUDA devices do otherwise than CPUs, decided in one place: arithmetic, order of additions, time."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

__all__ = ["filled", "float32", "images_at_once", "seconds", "settle"]

AN_IMAGE = 2**27
"""Bytes that a pass with gradients may take for an image of 32x32: those of 20 layers of 36-channel cells, doubled."""
IMAGES_AT_ONCE = 512
"""Images of a pass on a large device."""


def settle(device: torch.device | str) -> None:
    """Prepare this process for repeatable work on a device; call it before the first operation there.

    On CUDA, `cuda:N` becomes the current device; float32 means IEEE's for convolutions, too, which cuDNN computes in
    TF32 otherwise; torch selects deterministic algorithms where it has them, and warns where it has none. A CPU is left
    as it is.
    """
    device = torch.device(device)
    if device.type != "cuda":
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
    if device.index is not None:
        torch.cuda.set_device(device)
    _set_float32(tf32=False)
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


@contextmanager
def float32(tf32: bool = False) -> Iterator[None]:
    """Arithmetic of float32 inside the block or the decorated function, whatever this process has chosen: IEEE's.

    Args:
        tf32: matrix products and convolutions on CUDA round their inputs to 10 bits, as training may.
    """
    before = [(switch, switch.value()) for switch in _switches()]
    _set_float32(tf32)
    try:
        yield
    finally:
        for switch, value in before:
            if value is not None:
                switch.set(value)


def filled(values: Sequence[float], like: Tensor) -> Tensor:
    """(n,) the few values, of the type and on the device of a tensor; made there, so that no copy is waited for."""
    return torch.stack([like.new_full((), value) for value in values])


def images_at_once(device: torch.device | str, size: int = 32) -> int | None:
    """512, where the whole memory of a CUDA device has room for a forward and a backward pass of so many images.

    None on a CPU, whose caches, not its memory, decide, and on a smaller device. However many processes share the
    device, the number is the same, and so is what is computed with it.

    Args:
        size: of an image in pixels.
    """
    device = torch.device(device)
    if device.type != "cuda":
        return None
    room = torch.cuda.get_device_properties(device).total_memory / (AN_IMAGE * (size / 32) ** 2)
    return IMAGES_AT_ONCE if room >= IMAGES_AT_ONCE else None


def seconds(device: torch.device | str) -> float:
    """A clock in seconds, read once the device has done all that it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic()


@dataclass(frozen=True)
class _Switch:
    """A setting of float32's arithmetic."""

    get: Callable[[], Any]
    set: Callable[[Any], None]
    ieee: Any
    tf32: Any

    def value(self) -> Any:
        """None where torch cannot say, because its older and newer settings differ."""
        try:
            return self.get()
        except RuntimeError:
            return None


def _switches() -> list[_Switch]:
    """Every setting of this version of torch.

    Since torch 2.9 an operator has a setting of its own; the older ones are kept equal, because torch refuses to read
    them where they differ.
    """
    torches: Any = torch.backends
    switches = [
        _Switch(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest", "high"),
        _attribute(torches.cudnn, "allow_tf32", False, True),
    ]
    if hasattr(torches.cudnn, "conv"):
        for place in (torches.cuda.matmul, torches.cudnn.conv, torches.cudnn.rnn):
            switches.append(_attribute(place, "fp32_precision", "ieee", "tf32"))
        for place in (torches.mkldnn.matmul, torches.mkldnn.conv):
            switches.append(_attribute(place, "fp32_precision", "ieee", "ieee"))
    return switches


def _attribute(place: Any, name: str, ieee: Any, tf32: Any) -> _Switch:
    return _Switch(partial(getattr, place, name), partial(setattr, place, name), ieee, tf32)


def _set_float32(tf32: bool) -> None:
    for switch in _switches():
        switch.set(switch.tf32 if tf32 else switch.ieee)
