"""Settings of exports; no torch."""

from dataclasses import dataclass
from typing import Annotated

from evonas.ranges import COUNT, IMAGES, STEP, check_ranges

__all__ = ["ExportSettings"]


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """Check of an exported network, its quantisation, and the attacks on both."""

    int8: bool = False
    """Beside an ONNX file, write one of 8-bit integers (static quantisation), and compare the two."""
    images: Annotated[int, IMAGES] = 1000
    """Test images of the check, class-balanced; all where there are fewer."""
    calibration_images: Annotated[int, IMAGES] = 256
    """Images of the train part that give the ranges of the int8 network."""
    attacked_images: Annotated[int, IMAGES] = 100
    """Test images that both networks are attacked on with --int8."""
    epsilon: Annotated[float, STEP] = 8 / 255
    """Radius of these attacks in L-inf, on the [0, 1] scale."""
    queries: Annotated[int, COUNT] = 500
    """Passes of an image that the black-box attack has."""

    def __post_init__(self) -> None:
        check_ranges(self)
