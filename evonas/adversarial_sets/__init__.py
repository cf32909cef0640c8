"""Adversarial sets: images made once against target networks, on which every candidate is scored."""

from typing import TYPE_CHECKING

from evonas.lazy import import_lazily

if TYPE_CHECKING:
    from evonas.adversarial_sets.build import build_adversarial_set, set_work
    from evonas.adversarial_sets.card import ATTACK_NAMES, AttackCell, Card, CardData, Target
    from evonas.adversarial_sets.card_page import card_markdown
    from evonas.adversarial_sets.contents import (
        RECORD_COLUMNS,
        AdversarialSet,
        Contents,
        Piece,
        assemble,
        image_digests,
    )
    from evonas.adversarial_sets.format import load_adversarial_set, save_adversarial_set
    from evonas.adversarial_sets.plan import BuildPlan
    from evonas.adversarial_sets.settings import SET_PRESETS, SetSettings

__all__ = [
    "ATTACK_NAMES",
    "RECORD_COLUMNS",
    "SET_PRESETS",
    "AdversarialSet",
    "AttackCell",
    "BuildPlan",
    "Card",
    "CardData",
    "Contents",
    "Piece",
    "SetSettings",
    "Target",
    "assemble",
    "build_adversarial_set",
    "card_markdown",
    "image_digests",
    "load_adversarial_set",
    "save_adversarial_set",
    "set_work",
]

import_lazily(__name__)
