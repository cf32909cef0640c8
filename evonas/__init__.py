"""evonas searches neural networks that are accurate, small and hard to fool, and gives the whole trade-off front."""

from importlib import metadata

__all__ = ["__version__"]

__version__ = metadata.version("evonas")
