"""Whether gradients are those of the network: what they promise along a line, against what the logits do there."""

import torch
from torch import Tensor, nn

__all__ = ["false_slopes"]

SCALES = (0.1 / 255, 1 / 255, 4 / 255)
"""Changes of a pixel, root mean square: from where smooth networks are straight to where 8-bit rounding evens out."""

SHARE = 0.5
"""Part of a promise that may be missed."""

SEEN = 1e-4
"""Least change, promised or real, in units of the largest logit: float32 does not resolve smaller ones."""


def false_slopes(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """(B,) bool: along its gradient, the margin of an image changes otherwise than promised, at every scale.

    The margin is that of the label over the strongest other class, which a saturated softmax does not hide. Along a
    gradient that is zero or not finite nothing is tried.

    Args:
        network: frozen, from (B, C, H, W) images in [0, 1] to (B, K) logits that torch differentiates.
        labels: (B,).
    """
    with torch.inference_mode(False), torch.enable_grad():
        leaf, labels = images.detach().clone().requires_grad_(), labels.clone()
        logits = network(leaf)
        others = logits.detach().scatter(1, labels[:, None], -torch.inf).argmax(dim=1)
        (gradient,) = torch.autograd.grad(_gap(logits, labels, others).sum(), leaf)
    gradient = gradient.nan_to_num(0.0, 0.0, 0.0)
    unit = gradient / gradient.square().mean(dim=(1, 2, 3), keepdim=True).sqrt().clamp(min=1e-30)
    resolved = SEEN * logits.detach().abs().amax(dim=1)
    tried, kept = (torch.zeros(len(images), dtype=torch.bool, device=images.device) for _ in range(2))
    for scale in SCALES:
        up, down = ((images + sign * scale * unit).clamp(0, 1) for sign in (1, -1))
        promised = (gradient * (up - down)).sum(dim=(1, 2, 3))
        with torch.no_grad():
            change = _gap(network(up), labels, others) - _gap(network(down), labels, others)
        seen = torch.maximum(promised, change.abs()) > resolved
        tried |= seen
        kept |= seen & ((change - promised).abs() <= SHARE * promised)
    return tried & ~kept


def _gap(logits: Tensor, labels: Tensor, others: Tensor) -> Tensor:
    """(B,) logit of the label less that of another class."""
    return (logits.gather(1, labels[:, None]) - logits.gather(1, others[:, None])).squeeze(1)
