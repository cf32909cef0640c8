"""Files of weights: networks of every space come back bit for bit, and nothing else is taken for one."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from own_parts import Widths
from torch import nn

from evonas.errors import ConfigurationError, DataError, UnknownNameError
from evonas.networks.blocks import seeded
from evonas.ship import Provenance, Weights, WeightsCard, load_weights, read_weights, weights_file
from evonas.spaces import DartsSpace, HandmadeSpace, NasBench201Space, PhaseSpace, ShuffleSpace

OWN = ((0.25, 0.5, 0.75), (0.5, 0.25, 0.125))
PROVENANCE = Provenance(weights="search", identity="0" * 16, seed=3, data="digits", fingerprint="f" * 32, epochs=2)
SPACES: dict[str, tuple[Any, list[int]]] = {
    "phase": (PhaseSpace(phases=2, nodes=3, channels=3), [1, 0, 1, 0, 1, 0, 0, 0]),
    "shuffle": (ShuffleSpace(width=1 / 6, depth=0.1), []),
    "darts": (DartsSpace(channels=2, layers=3, nodes=2), [0, 1, 1, 2, 1, 3, 2, 5] * 2),
    "nasbench201": (NasBench201Space(channels=2, cells=1), [3, 4, 2, 1, 0, 3]),
    "hand-made": (HandmadeSpace("ShuffleNetV2", width=0.05), []),
}
every_space = pytest.mark.parametrize("name", SPACES)


def made(name: str) -> tuple[nn.Module, WeightsCard]:
    """A network with statistics of its own, and its card."""
    space, genes = SPACES[name]
    genome = np.array(genes, dtype=np.int64)
    if name == "shuffle":
        genome = space.canonical(space.sample(1, np.random.default_rng(0))[0])
    normalization = None if name in ("shuffle", "hand-made") else OWN
    built = {} if normalization is None else {"normalization": normalization}
    network = seeded(lambda: space.build(genome, 4, **built), 1).to(memory_format=torch.channels_last)
    drawn = torch.Generator().manual_seed(0)
    network(torch.rand(8, 3, 32, 32, generator=drawn))  # moves the statistics of batch normalisation
    return network.eval(), WeightsCard.of(network, space, genome, 4, (3, 32, 32), normalization, PROVENANCE)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.safetensors"
    path.write_bytes(weights_file(*made("phase")))
    return path


@every_space
def test_a_network_comes_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    network, card = made(name)
    path = tmp_path / "a.safetensors"
    path.write_bytes(weights_file(network, card))
    assert path.read_bytes() == weights_file(network, card)
    loaded, images = load_weights(path), torch.rand(5, 3, 32, 32)
    assert not loaded.training
    assert type(loaded) is type(network)
    with torch.no_grad():
        assert torch.equal(loaded(images), network(images))
    assert read_weights(path).card == card
    assert card.space["name"] == SPACES[name][0].name
    torch.manual_seed(5)
    drawn = torch.rand(2)
    torch.manual_seed(5)
    load_weights(path)
    assert torch.equal(torch.rand(2), drawn)  # torch's own generator is left alone


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_type(dtype: torch.dtype, tmp_path: Path) -> None:
    network, card = made("phase")
    network = network.to(dtype)
    card = WeightsCard.of(network, SPACES["phase"][0], np.array(card.genome), 4, (3, 32, 32), OWN, PROVENANCE)
    (tmp_path / "a").write_bytes(weights_file(network, card))
    found = load_weights(tmp_path / "a").state_dict()
    assert all(torch.equal(value, found[name]) for name, value in network.state_dict().items())
    assert {value.dtype for value in found.values()} == {dtype, torch.int64}


def test_the_library_reads_it_as_well(file: Path) -> None:
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        found = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        card = json.loads(opened.metadata()["evonas"])
    state = made("phase")[0].state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in found.items())
    assert card["provenance"] == asdict(PROVENANCE)
    assert card["normalization"] == [list(values) for values in OWN]


def test_loading_needs_neither_pymoo_nor_a_run(file: Path) -> None:
    code = (
        "import sys\nfrom evonas.ship import load_weights\nload_weights(sys.argv[1])\n"
        "print(*({'pymoo', 'pandas', 'ray', 'matplotlib', 'evonas.runs', 'evonas.data'} & set(sys.modules)))"
    )
    child = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True)
    assert child.stdout.split() == []


PHASE = {"name": "phase", "phases": 2, "nodes": 3, "channels": 3, "image_size": 32}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"genome": (1, 1, 1, 0, 1, 0, 0, 0)}, "its network has"),
        ({"genome": (1, 0)}, "expected a genome of shape"),
        ({"n_classes": 5}, "its network has"),
        ({"normalization": None}, "its network has normalize"),
        ({"dtype": "float16"}, "its network has"),
        ({"version": 2}, "its version is 2, this evonas reads version 1"),
        ({"space": {**PHASE, "channels": 10_000_000}}, "expected channels of at most 65536"),
        ({"space": {**PHASE, "channels": 60_000}}, "its network has 363603300004 parameters"),
        ({"space": {**PHASE, "nodes": "3"}}, "got nodes '3'"),
        ({"space": {**PHASE, "colour": 3}}, "got colour 3"),
        ({"space": {"phases": 2}}, "its space has no name"),
        ({"space": {**PHASE, "name": "os"}}, "unknown search space, which a plugin has that plugin= must name, 'os'"),
        ({"space": {"name": "darts", "layers": 65_537}}, "expected layers of at most 65536"),
        ({"genome": ("a",)}, "the genome of its card is"),
        ({"channels": 0}, "expected channels of 1 to"),
        ({"n_classes": True}, "the n_classes of its card is True"),
        ({"memory_format": "preserve_format"}, "the memory_format of its card is"),
    ],
)
def test_a_card_of_another_network_is_refused(values: dict[str, Any], said: str, file: Path) -> None:
    weights = read_weights(file)
    card = json.loads(json.dumps({**asdict(weights.card), **values}))
    head, arrays = head_of(card, weights)
    file.write_bytes(b"".join([head, *arrays]))
    with pytest.raises(DataError) as refused:
        load_weights(file)
    assert said in str(refused.value)
    assert str(refused.value).isprintable()


def head_of(card: dict[str, Any], weights: Weights) -> tuple[bytes, list[bytes]]:
    """The header that the format would write for a card that the dataclass refuses."""
    import evonas.ship.weights as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "asdict", lambda _: card)
        return module._head(weights.card, weights.tensors)


@pytest.mark.parametrize("name", ["genome", "provenance", "version"])
def test_a_card_that_lacks_something_or_has_more_is_refused(name: str, file: Path) -> None:
    weights = read_weights(file)
    card = json.loads(json.dumps(asdict(weights.card)))
    for other in ({key: value for key, value in card.items() if key != name}, {**card, "more": 1}):
        head, arrays = head_of(other, weights)
        file.write_bytes(b"".join([head, *arrays]))
        with pytest.raises(DataError, match=r"has not the keys|its version is None"):
            load_weights(file)


def test_every_bit_is_checked(file: Path) -> None:
    """A flipped bit in the header, in its padding and in the tensors; another length; something behind."""
    data = file.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    places = [0, 7, *range(8, start, 61), start - 1, *range(start, len(data), 211), len(data) - 1]
    for place in places:
        file.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(DataError) as refused:
            load_weights(file)
        assert str(refused.value).isprintable()
    for other in (b"", data[:7], data[:-1], data + b"\0", data[:start], b"\0" * 8, b"[]"):
        file.write_bytes(other)
        with pytest.raises(DataError, match="expected weights of a network in"):
            load_weights(file)


def test_missing_files_and_other_kinds(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    with pytest.raises(DataError, match="there is no such file"):
        load_weights(tmp_path / "nothing")
    with pytest.raises(DataError, match="it is not a regular file"):
        load_weights(tmp_path)
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    with pytest.raises(DataError, match="does not say how to build the network"):
        load_weights(tmp_path / "a.safetensors")
    save_file({"a": torch.ones(2)}, tmp_path / "b.safetensors", {"evonas": "{}"})
    with pytest.raises(DataError, match=r"it is of version 0\.1\.0 or of another kind"):
        load_weights(tmp_path / "b.safetensors")


def test_a_space_of_a_script_is_given(tmp_path: Path) -> None:
    genome = np.array([1, 0])
    network = Widths().build(genome, 3, normalization=OWN)
    card = WeightsCard.of(network, Widths(), genome, 3, (3, 32, 32), OWN, PROVENANCE)
    (tmp_path / "a").write_bytes(weights_file(network.eval(), card))
    with pytest.raises(DataError, match="unknown search space, which a plugin has that plugin= must name, 'widths'"):
        load_weights(tmp_path / "a")
    weights, images = read_weights(tmp_path / "a"), torch.rand(2, 3, 32, 32)
    assert not weights.card.known_space
    assert torch.equal(weights.network(Widths())(images), network(images))
    with pytest.raises(ConfigurationError, match="expected the space"):
        weights.network(Widths(image_size=16))
    with pytest.raises(UnknownNameError):
        weights.network()


def test_a_tensor_that_no_file_holds_is_named() -> None:
    network, card = made("phase")
    network.register_buffer("odd", torch.zeros(2, dtype=torch.complex64))
    with pytest.raises(ConfigurationError, match=r"got torch\.complex64; see --keep-weights none"):
        weights_file(network, card)
