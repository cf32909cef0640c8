"""Trainings that the papers of recipes state for CIFAR-10, in the terms of `TrainingConfig`; no torch."""

from dataclasses import replace

from evonas.errors import ConfigurationError
from evonas.training.settings import TrainingConfig

__all__ = ["PUBLISHED", "published_training"]

PUBLISHED: dict[str, TrainingConfig] = {
    "pgd_at": TrainingConfig(epochs=205, lr=0.1, weight_decay=2e-4, milestones=(102, 154), grad_clip=float("inf")),
    "fast_adversarial": TrainingConfig(epochs=15, lr=0.2, weight_decay=5e-4, cyclic=True, grad_clip=float("inf")),
    "trades": TrainingConfig(epochs=76, lr=0.1, weight_decay=2e-4, milestones=(74,), grad_clip=float("inf")),
    "trades_awp": TrainingConfig(epochs=200, lr=0.1, weight_decay=5e-4, milestones=(99, 149), grad_clip=float("inf")),
    "gaussian": TrainingConfig(
        epochs=90, batch_size=400, lr=0.1, weight_decay=1e-4, milestones=(30, 60), grad_clip=float("inf")
    ),
    "ibp": TrainingConfig(epochs=3200, batch_size=1600, lr=0.05, weight_decay=0.0, milestones=(1920, 2880)),
    "crown_ibp": TrainingConfig(epochs=3200, batch_size=1024, lr=0.05, weight_decay=0.0, milestones=(2600, 3040)),
}
"""Recipe -> its training; momentum 0.9, crops and flips in all of them, batches of 128 and no clipping in most.

pgd_at: Madry et al., 2018, and their cifar10_challenge: 80,000 steps on 50,000 images, the rate falls to a tenth after
40,000 and 60,000. fast_adversarial: Wong et al., 2020, and their train_fgsm.py: the rate rises to 0.2 and falls back to
0, there from step to step. trades: Zhang et al., 2019, and their train_trades_cifar10.py: the rate falls to a tenth in
the 75th epoch. trades_awp: Wu et al., 2020, and their train_trades_cifar.py: in the 100th and the 150th of 200.
gaussian: Cohen et al., 2019, and their train.py: batches of 400, the rate falls every 30 epochs. ibp: Gowal et al.,
2018: 100,000 steps of 1,600 images, the rate falls after 60,000 and 90,000. crown_ibp: Zhang et al., 2020, and their
cifar_dm-large_8_255.json. Both train by Adam, from 1e-3 and 5e-4; the loop here has SGD, so that the rate of 0.05 and
the clipping are this project's own.
"""


def published_training(recipe: str, epochs: int | None = None) -> TrainingConfig:
    """The training of a recipe's paper, its milestones in proportion to the epochs and rounded down.

    Args:
        epochs: passes over the images; None: the paper's.
    Raises:
        ConfigurationError: with so few epochs a fall of the learning rate has no epoch of its own.
    """
    paper = PUBLISHED[recipe]
    if epochs is None:
        return paper
    milestones = tuple(each * epochs // paper.epochs for each in paper.milestones)
    if len({0, *milestones}) <= len(milestones):
        falls = " and ".join(map(str, paper.milestones))
        raise ConfigurationError(
            f"expected more epochs for the published training of {recipe}, whose learning rate falls after {falls} of "
            f"{paper.epochs}, got {epochs}; give more of them, or leave out --published"
        )
    return replace(paper, epochs=epochs, milestones=milestones)
