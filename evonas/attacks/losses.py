"""What gradient attacks increase. A new one is a function and a line in `LOSSES`."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from evonas.attacks.attack import margins

__all__ = ["LOSSES", "AttackLoss", "cross_entropy", "kl", "margin"]

AttackLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(logits (B, K), labels (B,), clean logits (B, K)) -> (B,) float32, larger where the attack is farther."""


def cross_entropy(logits: Tensor, labels: Tensor, clean_logits: Tensor) -> Tensor:
    """(B,) cross-entropy to the labels (Madry et al., 2018)."""
    return functional.cross_entropy(logits.float(), labels, reduction="none")


def kl(logits: Tensor, labels: Tensor, clean_logits: Tensor) -> Tensor:
    """(B,) KL(p(clean) || p(attacked)), TRADES's inner loss (Zhang et al., 2019); labels are not used."""
    target = functional.log_softmax(clean_logits.float(), dim=1)
    found = functional.log_softmax(logits.float(), dim=1)
    return functional.kl_div(found, target, reduction="none", log_target=True).sum(dim=1)


def margin(logits: Tensor, labels: Tensor, clean_logits: Tensor) -> Tensor:
    """(B,) largest other logit minus the true one (Carlini & Wagner, 2017, f_6 without its floor)."""
    return -margins(logits, labels)


LOSSES: dict[str, AttackLoss] = {"cross_entropy": cross_entropy, "kl": kl, "margin": margin}
"""Name -> loss."""
