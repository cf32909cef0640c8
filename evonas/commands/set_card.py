"""Check an adversarial set and print its card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from evonas.commands.opened import File

__all__ = ["AdversarialSetCard"]


@dataclass(frozen=True)
class AdversarialSetCard:
    """Check an adversarial set, print its card, and draw some of its images."""

    example: ClassVar[str] = "evonas set set.safetensors --picture set.png"

    file: File
    """File of the set."""
    picture: Path | None = None
    """PNG file for a page of its images."""

    def __call__(self) -> None:
        import numpy as np

        from evonas.adversarial_sets import ATTACK_NAMES, card_markdown, load_adversarial_set
        from evonas.report import plot_images

        found = load_adversarial_set(self.file)
        print(card_markdown(found.card, found.fingerprint))
        if self.picture is not None:
            rows = found.records[np.linspace(0, len(found.records) - 1, min(40, len(found.records))).astype(int)]
            captions = [
                f"{found.card.targets[target].name}\n{ATTACK_NAMES[attack]} th {threshold}, class {found.labels[image]}"
                for image, target, attack, threshold, _ in rows
            ]
            title = f"{found.card.name}: {len(rows)} of {len(found.records)} records"
            plot_images(self.picture, found.images[rows[:, 0]], captions, title)
            print(f"picture: {self.picture}")
