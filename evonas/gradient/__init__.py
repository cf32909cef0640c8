"""Gradient methods: bilevel descent on the architecture of a supernet. Optional: no other room needs this one."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from evonas.lazy import Table, import_lazily

if TYPE_CHECKING:
    from evonas.gradient.bilevel import UpperGradients, direct_gradient, momentum_buffers_of, unrolled_gradient
    from evonas.gradient.darts import darts
    from evonas.gradient.delivered import DeliveredCost, DeliveredLatency, DeliveredShare
    from evonas.gradient.derive import derive_genotype
    from evonas.gradient.dsrna import METRICS, dsrna
    from evonas.gradient.e2rnas import e2rnas_v1, e2rnas_v2
    from evonas.gradient.losses import AdversarialLoss, CrossEntropy, ExpectedCost, OodLoss, Sum
    from evonas.gradient.method import BilevelConfig, FixedShares, FixedWeights, Method, Mgda, Preferences, Stage
    from evonas.gradient.mgda import NORMALISATIONS, SOLVERS, mgda_weights, normalise
    from evonas.gradient.min_norm import frank_wolfe_weights, min_norm_pair, min_norm_weights
    from evonas.gradient.pcdarts import pcdarts
    from evonas.gradient.pdarts import pdarts
    from evonas.gradient.perturbation import AlphaPerturbation
    from evonas.gradient.preferences import cone_weights, with_preferences
    from evonas.gradient.recipe_loss import RecipeLoss, with_recipe
    from evonas.gradient.robustness import BoundLoss, EpsilonSchedule, JacobianLoss, SquaredJacobianLoss
    from evonas.gradient.search import GradientSearch, SearchData, halves
    from evonas.gradient.supernet import Architecture, DartsSupernet, Mixture, SupernetPlan

__all__ = [
    "METHODS",
    "METRICS",
    "NORMALISATIONS",
    "SOLVERS",
    "AdversarialLoss",
    "AlphaPerturbation",
    "Architecture",
    "BilevelConfig",
    "BoundLoss",
    "CrossEntropy",
    "DartsSupernet",
    "DeliveredCost",
    "DeliveredLatency",
    "DeliveredShare",
    "EpsilonSchedule",
    "ExpectedCost",
    "FixedShares",
    "FixedWeights",
    "GradientSearch",
    "JacobianLoss",
    "Method",
    "Mgda",
    "Mixture",
    "OodLoss",
    "Preferences",
    "RecipeLoss",
    "SearchData",
    "SquaredJacobianLoss",
    "Stage",
    "Sum",
    "SupernetPlan",
    "UpperGradients",
    "cone_weights",
    "darts",
    "derive_genotype",
    "direct_gradient",
    "dsrna",
    "e2rnas_v1",
    "e2rnas_v2",
    "frank_wolfe_weights",
    "halves",
    "mgda_weights",
    "min_norm_pair",
    "min_norm_weights",
    "momentum_buffers_of",
    "normalise",
    "pcdarts",
    "pdarts",
    "unrolled_gradient",
    "with_preferences",
    "with_recipe",
]

METHODS: "Table[Callable[[], Method]]" = Table(
    {
        "darts": "evonas.gradient.darts:darts",
        "pcdarts": "evonas.gradient.pcdarts:pcdarts",
        "pdarts": "evonas.gradient.pdarts:pdarts",
    }
)
"""Name -> method with its own supernet and schedule; E2RNAS and DSRNA build on any of them."""

import_lazily(__name__)
