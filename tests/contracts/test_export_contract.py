"""Contract of every format of exported networks, with networks of every space; a new one is tested by its line."""

import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import evonas
from evonas.data import load_data
from evonas.errors import ConfigurationError
from evonas.networks import HANDMADE
from evonas.networks.blocks import seeded
from evonas.networks.darts import DropPath
from evonas.ship import EXPORTS, TOLERANCE, Sent, check_export, labelled_images
from evonas.spaces import SPACES, DartsSpace, NasBench201Space, PhaseSpace, ShuffleSpace

DIGITS = load_data("digits")
IMAGES, LABELS = labelled_images(DIGITS.test, 130, DIGITS.n_classes, "contract")


def of_space(space: object) -> nn.Module:
    """A network of a space, its normalisation first."""
    rng = np.random.default_rng(0)
    genome = next(each for each in space.sample(100, rng) if space.violation(each) <= 0)  # type: ignore[attr-defined]
    network: nn.Module = space.build(genome, 10, normalization=DIGITS.normalization)  # type: ignore[attr-defined]
    return network


def with_drop_path() -> nn.Module:
    network = of_space(DartsSpace(channels=2, layers=3))
    network.drop_path = DropPath(0.5, torch.Generator().manual_seed(0))  # type: ignore[assignment]
    return network


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "phase": lambda: of_space(PhaseSpace(phases=2, nodes=3, channels=4)),
    "shuffle": lambda: of_space(ShuffleSpace(width=1 / 6, depth=0.1)),
    "darts": lambda: of_space(DartsSpace(channels=2, layers=3)),
    "nasbench201": lambda: of_space(NasBench201Space(channels=4, cells=1)),
    "darts, drop path": with_drop_path,
    **{name: partial(kind.build, 10, 0.1) for name, kind in HANDMADE.items()},
}


def settled(name: str) -> nn.Module:
    """A network whose batch statistics are of these images, so that its logits differ."""
    network = seeded(NETWORKS[name], 0).train()
    for each in network.modules():
        if isinstance(each, nn.BatchNorm2d):
            each.momentum = 1.0
    with torch.no_grad():
        network(IMAGES[:64])
    return network.eval()


def test_every_space_is_there() -> None:
    assert {*SPACES} <= {*NETWORKS}


@pytest.mark.slow
@pytest.mark.parametrize("suffix", EXPORTS)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_file_gives_the_same_logits_in_any_batch(name: str, suffix: str) -> None:
    kind = EXPORTS[suffix]
    if any(importlib.util.find_spec(each) is None for each in kind.needs):
        pytest.skip(f"{', '.join(kind.needs)} is not installed")
    network = settled(name)
    expected = network(IMAGES).detach()
    assert float(expected.std(dim=0).max()) > 100 * TOLERANCE  # a constant answer is another one
    content = kind.write(Sent(network, 32, {"input_layout": "RGB", "value_range": "[0, 1]"}))
    assert str(Path(evonas.__file__).parent).encode() not in content  # nothing of this machine travels
    exported = kind.read(content)
    agreement = check_export(network, exported, IMAGES, f"net{suffix}")
    assert (agreement.images, agreement.changed) == (130, {1: 0, 128: 0})
    assert torch.equal(network(IMAGES), expected)  # it is as it was
    with pytest.raises(ConfigurationError, match=r"expected logits of net.* within 0\.0001"):
        check_export(settled("shuffle" if name == "phase" else "phase"), exported, IMAGES, "net")
