"""The attacks that a retrained network is scored under (RoCo-NAS, IV-C and IV-D)."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass

from evonas.attacks import BIM, FGSM, PGD, Attack, CarliniWagnerL2, DeepFool
from evonas.errors import ConfigurationError, choose

__all__ = ["SUITE", "SuiteColumn", "require_libraries", "suite_columns"]


@dataclass(frozen=True)
class SuiteColumn:
    """One measured error: the share of test images that the network gets wrong once they are attacked."""

    name: str
    label: str
    """The attack and what bounds it, as tables and pictures show it."""
    attack: Attack
    note: str
    """Where the settings come from."""


WEAK_PGD = PGD(epsilon=1 / 255, step_size=0.25 / 255, steps=10)
SHORT_BIM = BIM(epsilon=2 / 255, step_size=1 / 255, steps=3)
SINGLE_CW = CarliniWagnerL2(
    initial_const=1.0, confidence=0.0, stepsize=0.01, steps=60, binary_search_steps=1, abort_early=False
)
BOUNDED_DEEPFOOL = DeepFool(epsilon=0.25, steps=50, overshoot=0.02)

SUITE: dict[str, tuple[SuiteColumn, ...]] = {
    "pgd": (
        SuiteColumn(
            "pgd_error",
            "PGD, L-inf epsilon 1/255, 10 steps of 0.25/255",
            WEAK_PGD,
            "the paper's weak 'epsilon = 1' (Fig. 5), read as 1/255; steps are ours; the last iterate counts",
        ),
    ),
    "fgsm": tuple(
        SuiteColumn(
            f"fgsm_{epsilon}_error",
            f"FGSM, L-inf epsilon {epsilon}",
            FGSM(epsilon=epsilon),
            "the paper's epsilon, read on the [0, 1] scale",
        )
        for epsilon in (0.1, 0.2, 0.3)
    ),
    "bim": (
        SuiteColumn(
            "bim_error",
            "BIM, L-inf epsilon 2/255, 3 steps of 1/255",
            SHORT_BIM,
            "the paper gives no setting; steps of one grey level, min(epsilon + 4, 1.25 epsilon) of them, are Kurakin "
            "et al.'s (2017), and epsilon is ours",
        ),
    ),
    "cw": (
        SuiteColumn(
            "cw_error",
            "C&W L2, c 1, 60 steps, no bound",
            SINGLE_CW,
            "the paper gives no setting; without binary search and with few steps some images hold out, while the full "
            "attack succeeds on nearly all",
        ),
    ),
    "deepfool": (
        SuiteColumn(
            "deepfool_error",
            "DeepFool, L2 epsilon 0.25, 50 steps",
            BOUNDED_DEEPFOOL,
            "the paper gives no setting; without a bound it fools every network, so that what it needs beyond 0.25 "
            "(a change of 1/255 of every value is 0.22) is cut off",
        ),
    ),
}
"""Name on the command line -> columns."""

LIBRARIES = {"cw": "foolbox", "deepfool": "foolbox"}
"""Part of the suite -> the library of the extra `audit` that it stands on."""


def suite_columns(names: Sequence[str]) -> tuple[SuiteColumn, ...]:
    """The columns of parts of the suite, in their order. UnknownNameError where there is no such part."""
    return tuple(column for name in names for column in choose(SUITE, name, "part of the suite"))


def require_libraries(names: Sequence[str]) -> None:
    """ConfigurationError where a part of the suite stands on a library that is not installed."""
    absent = [name for name in names if name in LIBRARIES and importlib.util.find_spec(LIBRARIES[name]) is None]
    if absent:
        rest = ",".join(name for name in names if name not in absent)
        libraries = ", ".join(dict.fromkeys(LIBRARIES[name] for name in absent))
        raise ConfigurationError(
            f"expected {libraries} for the attacks {', '.join(absent)}, it is not installed; "
            f"pip install 'evonas[audit]', or leave them out with --suite {rest or chr(39) * 2}"
        )
