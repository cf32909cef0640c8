"""Networks on a CUDA device are recorded and bounded as on a CPU: with fake tensors, which need no GPU."""

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from evonas.certify import recording
from evonas.certify.ball import Ball
from evonas.certify.intervals import propagate
from evonas.certify.rules import RULES
from evonas.networks import VICTIMS
from evonas.networks.darts import GENOTYPES, DartsNetwork
from evonas.networks.handmade import HANDMADE
from evonas.spaces import NSGANET, PhaseSpace, ShuffleSpace

NORMALIZATION = ((0.5,) * 3, (0.25,) * 3)
SHUFFLE = ShuffleSpace()


def made(name: str) -> nn.Module:
    """A network of every kind, in eval mode."""
    network: nn.Module
    if name == "phase":
        network = PhaseSpace().build(PhaseSpace.from_lists(NSGANET), 10, normalization=NORMALIZATION)
    elif name == "shuffle":
        network = SHUFFLE.build(SHUFFLE.sample(1, np.random.default_rng(0))[0], 10, normalization=NORMALIZATION)
    elif name in HANDMADE:
        network = HANDMADE[name].build(10, 0.25, NORMALIZATION)
    elif name in VICTIMS:
        network = VICTIMS[name](10, 0.25, NORMALIZATION)
    else:
        network = DartsNetwork(GENOTYPES[name], 8, 3, 10, normalization=NORMALIZATION)
    return network.eval()


@pytest.fixture(scope="module", autouse=True)
def fake_cuda() -> None:
    """Skips where this version of torch makes no fake tensors of CUDA without a GPU, as 2.6 does not."""
    try:
        with FakeTensorMode(), torch.device("cuda"):
            nn.Conv2d(3, 4, 3)(torch.rand(1, 3, 8, 8))
    except RuntimeError as error:
        pytest.skip(f"no fake tensors of CUDA here: {str(error).splitlines()[0]}")


@pytest.mark.parametrize("name", ["phase", "shuffle", "DARTS_V2", *HANDMADE, *VICTIMS])
def test_every_network_is_recorded_and_bounded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "_check", lambda graph, model, image: None)  # it compares values
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"), torch.no_grad():
        network, images = made(name), torch.rand(2, 3, 32, 32)
        graph = recording.record(network, images, RULES)
        assert graph.nodes[-1].shape == (10,)
        if name == "shuffle":  # its intervals ask for the value of a tensor
            return
        ball = Ball(images, torch.full((2, 1, 1, 1), 0.01), "linf", None)
        box = propagate(graph, ball)[len(graph.nodes) - 1]
        assert box.middle.shape == (2, 10)
        assert box.middle.device.type == "cuda"
