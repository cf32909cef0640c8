"""Arithmetic of training: fp32, bf16 or tf32."""

import torch

from evonas.errors import ConfigurationError
from evonas.training.settings import TrainingPrecision, check_precision

__all__ = ["resolve_precision"]


def resolve_precision(precision: str, device: torch.device, depthwise: bool = False) -> tuple[TrainingPrecision, str]:
    """`fp32`, `bf16` or `tf32`, resolved from a setting, and the reason in one line.

    fp32 is IEEE's on every device. tf32 is fp32 whose matrix products and convolutions round their inputs to 10 bits,
    on CUDA alone. bf16 is autocast over fp32 weights with channels_last tensors. `auto` selects bf16 on hardware with
    bf16 instructions: CUDA devices that report them, CPUs with AVX-512 BF16 or AMX.

    Args:
        precision: one of PRECISIONS.
        depthwise: whether the networks consist largely of depthwise convolutions, for which bf16 is slower on a CPU.
    """
    check_precision(precision)
    if precision == "bf16":
        return "bf16", "precision: bf16, as asked"
    if precision == "tf32":
        if device.type != "cuda":
            raise ConfigurationError(f"expected precision tf32 on a CUDA device, got device {device}; take fp32")
        return "tf32", "precision: tf32 in training, as asked; fp32 in all else"
    if precision == "fp32":
        return "fp32", "precision: fp32, as asked"
    if depthwise and device.type == "cpu":
        return "fp32", "precision: fp32, because on a CPU bf16 is slower for depthwise convolutions"
    if device.type == "cuda":
        with torch.cuda.device(device):
            supported = torch.cuda.is_bf16_supported(including_emulation=False)
        hardware = torch.cuda.get_device_name(device)
    elif device.type == "cpu":
        supported, hardware = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported(), "this CPU"
    else:
        supported, hardware = False, f"device {device.type}"
    if supported:
        return "bf16", f"precision: bf16 with channels_last, because {hardware} has bf16 instructions"
    return "fp32", f"precision: fp32, because torch finds no bf16 instructions on {hardware}"
