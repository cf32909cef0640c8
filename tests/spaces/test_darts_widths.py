"""Widths of networks of cells by their number of parameters."""

import pytest

from evonas.costs import count_params
from evonas.errors import ConfigurationError
from evonas.networks.darts import GENOTYPES
from evonas.spaces import DartsSpace
from evonas.spaces.darts_costs import width_for
from evonas.types import Genome

SPACE = DartsSpace(channels=4, layers=3)
DARTS = SPACE.canonical(SPACE.from_genotype(GENOTYPES["DARTS_V2"]))
EVALUATED = DartsSpace()
"""DARTS's evaluation: 20 cells."""


def genome(name: str) -> Genome:
    return EVALUATED.from_genotype(GENOTYPES[name])


@pytest.mark.parametrize(
    ("params", "n_classes", "channels"),
    [
        (3.349e6, 10, 36),
        (2.061e6, 10, 28),
        (1.083e6, 10, 20),
        (0.416e6, 10, 12),
        (3.401e6, 100, 36),
        (3.047e6, 100, 34),
        (1.960e6, 100, 27),
        (1.010e6, 100, 19),
    ],
)
def test_widths_of_e2rnas_tables_follow_from_their_parameters(params: float, n_classes: int, channels: int) -> None:
    """Tables 1 and 2 of the first version."""
    assert width_for(EVALUATED, genome("DARTS_V2"), n_classes, params) == channels


def test_the_nearest_width_is_taken_and_of_two_the_smaller() -> None:
    counts = {channels: SPACE.cost(DARTS, 10, channels).params for channels in range(1, 9)}
    for channels in range(1, 8):
        narrow, wide = counts[channels], counts[channels + 1]
        assert width_for(SPACE, DARTS, 10, narrow) == channels
        assert width_for(SPACE, DARTS, 10, (narrow + wide) / 2) == channels  # as near
        assert width_for(SPACE, DARTS, 10, (narrow + wide) / 2 + 0.5) == channels + 1
        assert width_for(SPACE, DARTS, 10, (narrow + wide) / 2 - 0.5) == channels
    assert width_for(SPACE, DARTS, 10, 1) == 1
    assert count_params(SPACE.build(DARTS, channels=width_for(SPACE, DARTS, 10, 1e5))) == pytest.approx(1e5, rel=0.1)


def test_the_stem_of_imagenet_has_even_widths() -> None:
    large = DartsSpace(channels=48, layers=14, stem="imagenet", image_size=224)
    cells = large.from_genotype(GENOTYPES["DARTS_V2"])
    assert width_for(large, cells, 1000, large.cost(cells, 1000, 48).params) == 48
    assert width_for(large, cells, 1000, 1) == 2


@pytest.mark.parametrize("params", [0, -1, float("nan"), float("inf"), 1e13])
def test_what_is_no_number_of_parameters_is_refused(params: float) -> None:
    with pytest.raises(ConfigurationError, match="expected a number of parameters > 0"):
        width_for(SPACE, DARTS, 10, params)
