"""DSRNA: descent on the sum of the validation loss and a robustness metric (Hosseini et al., 2021, Eq. 16).

Eq. 16 takes the loss and the metric at the weights after one step of their own (order 2), also where the base method,
such as PC-DARTS, is of first order.
"""

from dataclasses import replace
from typing import Any, Literal, get_args

from evonas.errors import ConfigurationError, choose
from evonas.gradient.losses import CrossEntropy, Sum
from evonas.gradient.method import FixedShares, Method, Mgda
from evonas.gradient.pcdarts import pcdarts
from evonas.gradient.robustness import BoundLoss, JacobianLoss, Metric

__all__ = ["METRICS", "Combination", "dsrna"]

Combination = Literal["gamma", "normalised", "mgda"]
"""How a metric and the validation loss become one step of the architecture; see `dsrna`."""

METRICS: dict[str, Metric] = {"bound": BoundLoss(), "jacobian": JacobianLoss()}
"""Name -> -gamma R, with R of 3.1.1 or of 3.1.2 and gamma 0.01."""

SCHEDULES: dict[str, dict[str, Any]] = {
    "bound": {"search_batch_size": 256, "search_lr": 0.1, "alpha_lr": 6e-4},
    "jacobian": {"search_batch_size": 128, "search_lr": 0.025, "alpha_lr": 3e-4},
}
"""Metric -> settings of DSRNA-CB and of DSRNA-Jacobian (4.2.2)."""


def dsrna(
    base: Method | None = None,
    metric: Metric | None = None,
    share: float | None = None,
    combine: Combination = "gamma",
) -> Method:
    """Cross-entropy below; -gamma R and cross-entropy above.

    R comes first: the forward pass of the cross-entropy, in train mode, changes the running statistics that R uses.

    Args:
        base: method whose supernet and stages to use; None: PC-DARTS. Rates, batches and Adam are those of 4.2.2, and
            the order is 2.
        metric: a `BoundLoss` (DSRNA-CB), or a `JacobianLoss` or `SquaredJacobianLoss` (DSRNA-Jacobian); None:
            `BoundLoss()`.
        share: of the metric's gradient in each step of `normalised`, in (0, 1); with it gamma is normalised, too.
        combine: gamma: their sum, Eq. 16. normalised: gradients of length 1, half of a step each, or `share` of it,
            whatever gamma. mgda: the shortest convex combination of both gradients, which descends both, too;
            with a Jacobian each is divided by its value, with a bound, which may come near 0, each has length 1.
    """
    if combine not in get_args(Combination):
        raise ConfigurationError(f"expected combine of {', '.join(get_args(Combination))}, got {combine!r}")
    if combine == "mgda" and share is not None:
        raise ConfigurationError(f"expected no share of the metric with mgda, which finds both weights, got {share}")
    if share is not None and not 0 < share < 1:
        raise ConfigurationError(f"expected a metric's share of the step in (0, 1), got {share}")
    base, metric = base or pcdarts(), metric or BoundLoss()
    schedule = choose(SCHEDULES, metric.name, "robustness metric")
    config = replace(
        base.config,
        search_momentum=0.9,
        search_weight_decay=3e-4,
        search_lr_min=0.0,
        alpha_betas=(0.5, 0.999),
        alpha_weight_decay=3e-4,
        order=2,
        **schedule,
    )
    name = f"dsrna-{metric.name}" if base.name == "pcdarts" else f"dsrna-{metric.name}-{base.name}"
    if share is not None or combine == "normalised":
        half = 0.5 if share is None else share
        shares = FixedShares((half, 1 - half))
        return replace(base, name=name, config=config, upper=(metric, CrossEntropy()), combine=shares)
    if combine == "mgda":
        mgda = Mgda(normalisation="l2" if isinstance(metric, BoundLoss) else "loss", applied_to="normalised")
        return replace(base, name=name, config=config, upper=(metric, CrossEntropy()), combine=mgda)
    return replace(base, name=name, config=config, upper=(Sum((metric, CrossEntropy())),))
