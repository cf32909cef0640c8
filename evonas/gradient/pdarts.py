"""P-DARTS: the supernet grows deeper as its edges lose operations (Chen et al., 2019)."""

from evonas.gradient.method import BilevelConfig, Method, Stage

__all__ = ["pdarts"]


def pdarts() -> Method:
    """Three stages of 25 epochs with 5, 11 and 17 cells and 8, 5 and 3 operations an edge; first order.

    Each stage trains new weights and a new architecture, in its first 10 epochs the weights only. Dropout on
    skip_connect starts at 0, 0.4 and 0.7 (the paper). The normal cell has at most two skip_connects.
    """
    plans = ((5, 8, 0.0), (11, 5, 0.4), (17, 3, 0.7))  # layers, operations, dropout
    return Method(
        name="pdarts",
        stages=tuple(
            Stage(epochs=25, weights_only=10, layers=layers, keep=keep, skip_dropout=dropout)
            for layers, keep, dropout in plans
        ),
        config=BilevelConfig(search_batch_size=96, search_lr_min=0.0, alpha_lr=6e-4),
        max_skips=2,
    )
