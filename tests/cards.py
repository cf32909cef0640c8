"""Cards of adversarial sets that tests make by hand."""

from typing import Any

from evonas.adversarial_sets.card import AttackCell, Card, CardData, Target
from evonas.adversarial_sets.contents import Contents, Piece


def target(name: str, **changes: Any) -> Target:
    values = {
        "width": 0.25,
        "params": 10,
        "macs": 100,
        "epochs": 1,
        "lr": 0.1,
        "batch_size": 8,
        "recipe": "SGD",
        "train_images": 20,
        "clean_accuracy": 0.5,
        "adversarial_part_accuracy": 1.0,
    }
    return Target(name=name, **{**values, **changes})


def cell(name: str, piece: Piece, tried: int) -> AttackCell:
    """The attack that found a piece, on the target of this name."""
    return AttackCell(
        target=name,
        attack=piece.attack,
        threshold=piece.threshold,
        algorithm="de",
        population=8,
        generations=2,
        tried=tried,
        successful=len(piece.labels),
        epsilon_used=1 / 255,
        epsilon_mean=1 / 255,
        evaluations=20,
        seconds=0.5,
    )


def card(contents: Contents, data: CardData, targets: tuple[Target, ...], pieces: tuple[Piece, ...], name: str) -> Card:
    counts: dict[str, Any] = {**contents.counts()}
    return Card(
        name=name,
        data=data,
        preset="quick",
        seed=0,
        device="cpu",
        precision="fp32",
        threads=1,
        targets=targets,
        cells=tuple(cell(targets[piece.target].name, piece, data.adversarial_images) for piece in pieces),
        versions={"torch": "2.6"},
        created_by="evonas 0.1.0",
        **counts,
    )
