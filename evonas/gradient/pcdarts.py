"""PC-DARTS: partial channels and weighted edges (Xu et al., 2020)."""

from evonas.gradient.method import BilevelConfig, Method, Stage

__all__ = ["pcdarts"]


def pcdarts() -> Method:
    """A quarter of the channels, batches of 256, a rate from 0.1 to 0, the architecture from epoch 15; first order."""
    return Method(
        name="pcdarts",
        stages=(Stage(epochs=50, weights_only=15),),
        config=BilevelConfig(search_batch_size=256, search_lr=0.1, search_lr_min=0.0, alpha_lr=6e-4),
        partial=4,
        edge_normalisation=True,
    )
