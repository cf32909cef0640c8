"""The version, once, and those of other packages."""

from importlib import metadata

__all__ = ["__version__", "version_of"]

__version__ = "0.1.0"


def version_of(package: str) -> str:
    """Version of evonas or an installed package; `not installed` where there is none."""
    if package == "evonas":  # a checkout that is not installed has one, too
        return __version__
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
