"""DSRNA: the validation loss and a metric of robustness are descended as one sum (Hosseini et al., 2021, Eq. 16).

Eq. 16 takes w*(alpha) by one step of the weights, which is order 2; PC-DARTS, whose supernet and schedule the paper
searches with, is of first order. Order 1 is what it is given here, unless the base has order 2.
"""

from dataclasses import replace
from typing import Any

from evonas.errors import choose
from evonas.gradient.losses import CrossEntropy, Sum
from evonas.gradient.method import Method
from evonas.gradient.pcdarts import pcdarts
from evonas.gradient.robustness import BoundLoss, JacobianLoss

__all__ = ["METRICS", "dsrna"]

METRICS: dict[str, BoundLoss | JacobianLoss] = {"bound": BoundLoss(), "jacobian": JacobianLoss()}
"""Name -> -gamma R with R as in 3.1.1 or 3.1.2, gamma 0.01."""

SCHEDULES: dict[str, dict[str, Any]] = {
    "bound": {"search_batch_size": 256, "search_lr": 0.1, "alpha_lr": 6e-4},
    "jacobian": {"search_batch_size": 128, "search_lr": 0.025, "alpha_lr": 3e-4},
}
"""4.2.2: of DSRNA-CB and of DSRNA-Jacobian."""


def dsrna(base: Method | None = None, metric: BoundLoss | JacobianLoss | None = None) -> Method:
    """Cross-entropy below; -gamma R plus cross-entropy above, in one sum.

    In this order: the cross-entropy is in train mode, and its forward pass moves the running statistics that R is with.

    Args:
        base: whose supernet and stages it is, PC-DARTS unless given; rates, batches and Adam are those of 4.2.2.
        metric: a `BoundLoss` (DSRNA-CB, unless given) or a `JacobianLoss` (DSRNA-Jacobian).
    """
    base, metric = base or pcdarts(), metric or BoundLoss()
    schedule = choose(SCHEDULES, metric.name, "metric of robustness")
    config = replace(
        base.config,
        search_momentum=0.9,
        search_weight_decay=3e-4,
        search_lr_min=0.0,
        alpha_betas=(0.5, 0.999),
        alpha_weight_decay=3e-4,
        **schedule,
    )
    name = f"dsrna-{metric.name}" if base.name == "pcdarts" else f"dsrna-{metric.name}-{base.name}"
    return replace(base, name=name, config=config, upper=(Sum((metric, CrossEntropy())),))
