"""Which arithmetic a network trains in, and what speaks for it."""

from typing import Literal

import torch

from evonas.errors import ConfigurationError

__all__ = ["PRECISIONS", "resolve_precision"]

PRECISIONS = ("auto", "bf16", "fp32")


def resolve_precision(
    precision: str, device: torch.device, depthwise: bool = False
) -> tuple[Literal["fp32", "bf16"], str]:
    """`fp32` or `bf16` for `auto`, and one line that says why.

    bf16 is autocast over fp32 weights with channels_last tensors. `auto` takes it where the hardware has bf16
    instructions: CUDA devices that report them, CPUs with AVX-512 BF16 or AMX.

    Args:
        depthwise: the networks have many depthwise convolutions, for which bf16 is slower on a CPU.
    """
    if precision not in PRECISIONS:
        raise ConfigurationError(f"expected a precision of {', '.join(PRECISIONS)}, got {precision!r}")
    if precision == "bf16":
        return "bf16", "precision: bf16, as asked"
    if precision == "fp32":
        return "fp32", "precision: fp32, as asked"
    if depthwise and device.type == "cpu":
        return "fp32", "precision: fp32, because on a CPU bf16 is slower for depthwise convolutions"
    if device.type == "cuda":
        with torch.cuda.device(device):
            supported = torch.cuda.is_bf16_supported(including_emulation=False)
        what = torch.cuda.get_device_name(device)
    elif device.type == "cpu":
        supported, what = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported(), "this CPU"
    else:
        supported, what = False, f"device {device.type}"
    if supported:
        return "bf16", f"precision: bf16 with channels_last, because {what} has bf16 instructions"
    return "fp32", f"precision: fp32, because no bf16 instructions that torch uses were found on {what}"
