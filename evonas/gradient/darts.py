"""DARTS: one supernet, one loss at each level (Liu et al., 2019)."""

from evonas.gradient.method import BilevelConfig, Method, Stage

__all__ = ["darts"]


def darts(order: int = 1) -> Method:
    """50 epochs of 8 cells with 16 channels; `order` 2 unrolls one step of the weights."""
    return Method(name="darts", stages=(Stage(),), config=BilevelConfig(order=2 if order == 2 else 1))
