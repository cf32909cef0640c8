"""A faster ReLU for bf16 on the CPU."""

import torch
from torch import Tensor, nn

__all__ = ["with_fast_relu"]


class FastReLU(nn.ReLU):
    """ReLU that compares bf16 values as 16-bit integers, while gradients are disabled.

    The highest bit is the sign in both readings, so negative integers are the negative numbers and -0. torch's bf16
    kernel converts to float32 and back, which takes a fifth of a forward pass of narrow networks. A NaN with its sign
    bit set becomes 0 here.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.bfloat16 or x.device.type != "cpu" or torch.is_grad_enabled():
            return super().forward(x)
        bits = x.view(torch.int16)
        return (bits.clamp_min_(0) if self.inplace else bits.clamp_min(0)).view(torch.bfloat16)


def with_fast_relu(network: nn.Module) -> nn.Module:
    """Replace every plain `nn.ReLU` in `network`, in place; returns the network."""
    for module in list(network.modules()):
        for name, child in module._modules.items():
            if type(child) is nn.ReLU:
                setattr(module, name, FastReLU(child.inplace))
    return network
