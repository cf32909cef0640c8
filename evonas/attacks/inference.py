"""Copies of networks for fast inference."""

import copy
from collections import Counter
from typing import Literal, TypeGuard, TypeVar

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import fuse_conv_bn_eval

from evonas.errors import ConfigurationError

__all__ = ["Precision", "check_precision", "inference_copy"]

Layer = TypeVar("Layer", bound=nn.Module)
Precision = Literal["fp32", "bf16"]


def check_precision(precision: str) -> None:
    """ConfigurationError unless it is fp32 or bf16."""
    if precision not in ("fp32", "bf16"):
        raise ConfigurationError(f"expected precision fp32 or bf16, got {precision!r}")


def inference_copy(model: nn.Module, precision: Precision = "fp32") -> nn.Module:
    """A copy in eval mode that computes the same logits up to rounding, in less time. The model is not changed.

    If torch.fx can trace the model, batch normalisations that directly follow a convolution are folded into it. Memory
    is channels_last, and no parameter requires gradients. float32 images in, float32 logits out, differentiable with
    respect to the images.

    Args:
        precision: bf16 computes under autocast except for the last linear layer, so that logits are not rounded to 8
            bits: they are accurate to about 1% of the largest one, and close ones keep their order.
    """
    check_precision(precision)
    network = copy.deepcopy(model).float().eval().requires_grad_(False)
    linear = [module for module in network.modules() if type(module) is nn.Linear]
    if linear:
        linear[-1].__class__ = _Float32Linear
    return _Inference(_folded(network), precision).eval()


class _Float32Linear(nn.Linear):
    """A linear layer that computes in float32 under autocast."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


class _Inference(nn.Module):
    def __init__(self, network: nn.Module, precision: Precision) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.precision = precision

    def forward(self, images: Tensor) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            logits: Tensor = self.network(images)
        return logits.float()


class _Tracer(fx.Tracer):
    """Traces into containers; modules without children are leaves."""

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return not any(True for _ in module.children())


def _folded(network: nn.Module) -> nn.Module:
    """Fold every batch normalisation that is the only reader of a convolution's output into that convolution."""
    try:
        graph = _Tracer().trace(network)
    except Exception:  # any forward that cannot be traced; logits are the same without folding
        return network
    traced = fx.GraphModule(network, graph)
    called = [node for node in graph.nodes if node.op == "call_module"]
    part = {node: traced.get_submodule(str(node.target)) for node in called}
    calls = Counter(map(id, part.values()))
    for node in called:
        reads = node.args[0] if node.args else None
        if not isinstance(reads, fx.Node) or reads not in part or len(reads.users) > 1:
            continue
        conv, norm = part[reads], part[node]
        if calls[id(conv)] == calls[id(norm)] == 1 and _foldable(conv, nn.Conv2d) and _foldable(norm, nn.BatchNorm2d):
            _replace(traced, str(reads.target), fuse_conv_bn_eval(conv, norm).requires_grad_(False))
            _replace(traced, str(node.target), nn.Identity())
    return traced.eval()


def _foldable(module: nn.Module, kind: type[Layer]) -> TypeGuard[Layer]:
    """Whether a module is exactly of this class, without hooks, and has running statistics if it normalises."""
    hooked = module._forward_hooks or module._forward_pre_hooks
    return type(module) is kind and not hooked and getattr(module, "track_running_stats", True)


def _replace(network: nn.Module, name: str, part: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, part)
