"""Losses that gradient attacks increase. To add one: a function here and a line in `LOSSES`."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from evonas.attacks.attack import margins

__all__ = ["LOSSES", "AttackLoss", "cross_entropy", "kl", "margin"]

AttackLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(logits (B, K), labels (B,), clean logits (B, K)) -> (B,) float32, larger for a more successful attack."""


def cross_entropy(logits: Tensor, labels: Tensor, clean_logits: Tensor) -> Tensor:
    """(B,) cross-entropy with the labels (Madry et al., 2018)."""
    return functional.cross_entropy(logits.float(), labels, reduction="none")


def kl(logits: Tensor, labels: Tensor, clean_logits: Tensor) -> Tensor:
    """(B,) KL(p(clean) || p(attacked)), TRADES's inner loss (Zhang et al., 2019); labels are ignored."""
    target = functional.log_softmax(clean_logits.float(), dim=1)
    attacked = functional.log_softmax(logits.float(), dim=1)
    return functional.kl_div(attacked, target, reduction="none", log_target=True).sum(dim=1)


def margin(logits: Tensor, labels: Tensor, clean_logits: Tensor) -> Tensor:
    """(B,) largest other logit minus the true logit (Carlini and Wagner, 2017, f_6 without its floor)."""
    return -margins(logits, labels)


LOSSES: dict[str, AttackLoss] = {"cross_entropy": cross_entropy, "kl": kl, "margin": margin}
"""Name -> loss."""
