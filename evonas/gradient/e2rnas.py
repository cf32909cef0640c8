"""E2RNAS, both versions: adversarial or out-of-distribution training below, several objectives above (Yue et al.).

Both use the supernet and the schedule of a base method (v2, Table IV). Algorithm 1 updates the weights before the
architecture, with gradients of second order (Eq. 9): pass a base with `begin_with="weights"` and `order=2`. A recipe
that trains the weights of the base trains those of E2RNAS, too, in place of its cross-entropy or attack.
"""

from dataclasses import replace

from evonas.gradient.delivered import DeliveredCost
from evonas.gradient.losses import AdversarialLoss, CrossEntropy, ExpectedCost, LevelLoss, OodLoss, Sum
from evonas.gradient.method import Combine, Method, Mgda
from evonas.gradient.recipe_loss import under_recipe

__all__ = ["e2rnas_v1", "e2rnas_v2"]


def e2rnas_v1(
    base: Method,
    limit: float = 1.0,
    adversarial: bool = True,
    count_params: bool = True,
    combine: Combine = Mgda(),  # noqa: B008 - frozen
    epsilon: float = 2 / 255,
    cost: ExpectedCost | None = None,
    validate: bool = True,
    sizes: tuple[DeliveredCost, ...] = (),
) -> Method:
    """Fast adversarial training below; validation loss and max(N-hat, L) above, weighted by Eq. 11.

    If the expected parameters are below L their gradient vanishes, and the validation loss gets all the weight; Eq. 11
    taken literally would not move the architecture at all.

    Args:
        base: method whose supernet and schedule to use; of order 2 in the paper (Eq. 9).
        limit: L, in millions of parameters of the evaluated network (0: "without L").
        adversarial, count_params: switches of Table 3.
        combine: Eq. 11; `FixedWeights()` gives Table 3 without MGDA, 0.5 each.
        epsilon: radius of the adversarial training, pixels in [0, 1].
        cost: how to count parameters, also if they are only monitored; limit and bound are set here.
        validate: whether the validation loss is an objective; Table 3 has a row for parameters alone.
        sizes: instead of max(N-hat, L), sizes of the delivered network, which have their own limits; N-hat is
            monitored.
    """
    params = replace(cost or ExpectedCost(nodes=base.nodes), kind="params", limit=limit, bound="above")
    counted: tuple[LevelLoss, ...] = (sizes or (params,)) if count_params else ()
    upper: tuple[LevelLoss, ...] = (*((CrossEntropy(),) if validate else ()), *counted)
    return replace(
        _on(base, "e2rnas-v1"),
        lower=under_recipe(AdversarialLoss(epsilon=epsilon) if adversarial else CrossEntropy(), base.recipe),
        upper=upper,
        combine=combine,
        counted=None if params in counted else replace(params, limit=0.0),
    )


def e2rnas_v2(
    base: Method,
    limit: float = 2.5,
    flops_limit: float = 425.0,
    adversarial_below: bool = False,
    ood_below: bool = True,
    combine: Combine = Mgda(normalisation="l2", solver="frank_wolfe", applied_to="normalised"),  # noqa: B008 - frozen
    epsilon: float = 2 / 255,
    cost: ExpectedCost | None = None,
    sizes: tuple[DeliveredCost, ...] = (),
) -> Method:
    """L_tr + L_ood below; validation, OoD and adversarial loss, |N-hat - L| and |F-hat - F| above.

    Args:
        base: method whose supernet and schedule to use; of order 2 in the paper (Eq. 9).
        limit, flops_limit: L and F, in millions; S1 of Table I (S2: 3.5 and 586).
        adversarial_below, ood_below: switches of Table VI.
        combine: MGDA by Frank-Wolfe, of gradients of length 1; `FixedWeights()` gives Table VI without it, 0.2 each.
        epsilon: radius of both adversarial losses, pixels in [0, 1].
        cost: how to count parameters and FLOPs; limit and bound are set here.
        sizes: instead of |N-hat - L| and |F-hat - F|, sizes of the delivered network, which have their own limits;
            N-hat is monitored.
    """
    counted = replace(cost or ExpectedCost(nodes=base.nodes), bound="near")
    expected = (replace(counted, kind="params", limit=limit), replace(counted, kind="flops", limit=flops_limit))
    train = under_recipe(AdversarialLoss(epsilon=epsilon) if adversarial_below else CrossEntropy(), base.recipe)
    return replace(
        _on(base, "e2rnas-v2"),
        lower=Sum((train, OodLoss())) if ood_below else train,
        upper=(
            CrossEntropy(),
            OodLoss(),
            AdversarialLoss(epsilon=epsilon),
            *(sizes or expected),
        ),
        combine=combine,
        counted=replace(expected[0], limit=0.0) if sizes else None,
    )


def _on(base: Method, name: str) -> Method:
    return replace(base, name=name if base.name == "darts" else f"{name}-{base.name}")
