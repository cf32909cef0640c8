"""Choices of bounds; no torch."""

from typing import Literal

__all__ = ["Intermediate", "Norm", "RelaxationName", "Rounding"]

Norm = Literal["linf", "l2"]
"""Norm of a perturbation."""
Intermediate = Literal["linear", "signs", "interval"]
"""Bounds before each ReLU."""
RelaxationName = Literal["adaptive", "same_slope"]
"""Lower side of a ReLU."""
Rounding = Literal["nearest", "outward"]
"""Whether bounds make room for the rounding errors of their own computation."""
