"""Sound bounds of network outputs over balls of images, and norms of Jacobians."""

from typing import TYPE_CHECKING

from evonas.lazy import import_lazily

if TYPE_CHECKING:
    from evonas.certify.certificate import (
        BoundsAndMargins,
        bounds_and_margins,
        certified_accuracy,
        certified_radius,
        margin_bounds,
        random_targets,
    )
    from evonas.certify.interval_margins import interval_margin_bounds
    from evonas.certify.intervals import interval_bounds
    from evonas.certify.jacobian import jacobian_norm_bound, squared_jacobian_norm
    from evonas.certify.logit_bounds import linear_bounds
    from evonas.certify.slopes import piecewise_jacobian

__all__ = [
    "BoundsAndMargins",
    "bounds_and_margins",
    "certified_accuracy",
    "certified_radius",
    "interval_bounds",
    "interval_margin_bounds",
    "jacobian_norm_bound",
    "linear_bounds",
    "margin_bounds",
    "piecewise_jacobian",
    "random_targets",
    "squared_jacobian_norm",
]

import_lazily(__name__)
