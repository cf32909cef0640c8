"""Attacks: images that a network gets wrong, close to images that it gets right.

To add one: a file here and a line in `ATTACKS`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from evonas.lazy import Table, import_lazily

if TYPE_CHECKING:
    from evonas.attacks.attack import Attack
    from evonas.attacks.autoattack import AutoAttack
    from evonas.attacks.cw import CarliniWagnerL2
    from evonas.attacks.deepfool import DeepFool
    from evonas.attacks.gradient_sign import BIM, FGSM, PGD
    from evonas.attacks.inference import FixedModel, inference_copy
    from evonas.attacks.pixel import PixelAttack
    from evonas.attacks.square import SquareSearch
    from evonas.attacks.threshold import ThresholdAttack

__all__ = [
    "ATTACKS",
    "BIM",
    "FGSM",
    "PGD",
    "Attack",
    "AutoAttack",
    "CarliniWagnerL2",
    "DeepFool",
    "FixedModel",
    "PixelAttack",
    "SquareSearch",
    "ThresholdAttack",
    "inference_copy",
]

ATTACKS: "Table[Callable[..., Attack]]" = Table(
    {
        "autoattack": "evonas.attacks.autoattack:AutoAttack",
        "bim": "evonas.attacks.gradient_sign:BIM",
        "cw": "evonas.attacks.cw:CarliniWagnerL2",
        "deepfool": "evonas.attacks.deepfool:DeepFool",
        "fgsm": "evonas.attacks.gradient_sign:FGSM",
        "pgd": "evonas.attacks.gradient_sign:PGD",
        "pixel": "evonas.attacks.pixel:PixelAttack",
        "square_search": "evonas.attacks.square:SquareSearch",
        "threshold": "evonas.attacks.threshold:ThresholdAttack",
    }
)
"""Name -> class; the defaults are common settings."""

import_lazily(__name__)
