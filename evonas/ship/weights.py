"""Weights of a network in one safetensors file, with everything that builds the network again."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_type_hints

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from evonas._version import __version__
from evonas.errors import ConfigurationError, DataError, choose
from evonas.files import decoding, expanded, read_regular
from evonas.networks import HANDMADE
from evonas.networks.blocks import Normalization, seeded
from evonas.parts import as_plain, fits, part_identity
from evonas.plugins import load_plugins
from evonas.spaces import SPACES, HandmadeSpace
from evonas.types import Genome, TrainOn

__all__ = [
    "Provenance",
    "Weights",
    "WeightsCard",
    "load_weights",
    "parse_weights",
    "read_weights",
    "space_settings",
    "weights_file",
]

VERSION = 1
DTYPES = {
    torch.bfloat16: "BF16",
    torch.bool: "BOOL",
    torch.float16: "F16",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.uint8: "U8",
}
"""Types of tensors -> their names in a file."""

LARGEST_FILE = 4 * 2**30
"""Limit in bytes, above every network of a space. Larger files are refused unread."""

_LARGEST_HEADER = 16 * 2**20
"""Limit in bytes; fits 100,000 tensors."""

_LARGEST_SETTING = 2**16
"""Limit on the whole numbers in the settings of our own spaces: widths, depths and sizes."""

_REMEDY = "copy it there again, or load another one"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Origin of weights."""

    weights: Literal["search", "audit"]
    """search: as they were scored. audit: of a network that was trained to the end."""
    identity: str
    """Digest of everything that they follow from, besides the genome."""
    seed: int
    """Seed of the run."""
    data: str
    fingerprint: str
    """Fingerprint of the data."""
    epochs: int | None = None
    """Passes over the images; None: the weights are inherited."""
    train_on: TrainOn = "train"
    """Images that they were trained on: the train part, or all but the test part."""
    evonas: str = __version__
    """Version that wrote them."""


@dataclass(frozen=True, kw_only=True)
class WeightsCard:
    """Everything that builds a network again, but its weights. JSON in the metadata of their file."""

    version: int = VERSION
    space: dict[str, Any]
    """Its name, and its settings by name."""
    genome: tuple[int, ...]
    n_classes: int
    channels: int
    """Channels of the images."""
    image_size: int
    """Height and width of the images."""
    normalization: tuple[tuple[float, ...], tuple[float, ...]] | None
    """(mean, deviation) per channel, the first layer; None: there is none."""
    dtype: Literal["float16", "bfloat16", "float32", "float64"]
    """Type of the weights."""
    memory_format: Literal["contiguous_format", "channels_last"]
    """Order of the weights in memory, by which the last bits of sums differ."""
    provenance: Provenance

    def __post_init__(self) -> None:
        for name in ("n_classes", "channels", "image_size"):
            if not 1 <= getattr(self, name) <= _LARGEST_SETTING:
                raise ConfigurationError(f"expected {name} of 1 to {_LARGEST_SETTING}, got {getattr(self, name)}")

    @classmethod
    def of(
        cls,
        network: nn.Module,
        space: Any,
        genome: Genome,
        n_classes: int,
        image_shape: Sequence[int],
        normalization: Normalization,
        provenance: Provenance,
    ) -> Self:
        """The card of a space's network.

        Args:
            network: with its weights.
            space: a frozen dataclass; fields that change no network (`search_only`) are left out.
            image_shape: (C, H, W).
            normalization: that the network was built with.
        """
        pair = None if normalization is None else (tuple(normalization[0]), tuple(normalization[1]))
        kinds: Any = [str(each.dtype).removeprefix("torch.") for each in network.parameters()]
        return cls(
            space=space_settings(space),
            genome=tuple(genome.tolist()),
            n_classes=n_classes,
            channels=int(image_shape[0]),
            image_size=int(image_shape[-1]),
            normalization=pair,
            dtype=next(iter(kinds), "float32"),
            memory_format="channels_last" if any(map(_channels_last, network.parameters())) else "contiguous_format",
            provenance=provenance,
        )

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """The card that `asdict` gave. An error for other keys, and for values of other types."""
        if isinstance(value, dict) and value.get("version") != VERSION:
            raise DataError(f"its version is {value.get('version')!r}, this evonas reads version {VERSION}")
        given = _checked(cls, value, "card")
        origin = value["provenance"]
        origin = {"train_on": "train", **origin} if isinstance(origin, dict) else origin  # version 0.1.0 wrote none
        return cls(**{**given, "provenance": Provenance(**_checked(Provenance, origin, "provenance"))})

    @property
    def known_space(self) -> bool:
        """Whether a table has the space, so that the card is enough to build the network."""
        return self.space["name"] in HANDMADE or self.space["name"] in SPACES

    def make_space(self) -> Any:
        """The space that the network is of.

        Raises:
            UnknownNameError: no table has it, such as one of a plugin that is not named.
            ConfigurationError: it has no such settings.
        """
        given = {name: _as_tuples(value) for name, value in self.space.items()}
        name = given["name"]
        if name in HANDMADE:
            kind: Any = HandmadeSpace
        else:
            kind = choose(SPACES, given.pop("name"), "search space, which a plugin has that plugin= must name,")
        _check_settings(kind, given)
        return kind(**given)


@dataclass(frozen=True, eq=False)
class Weights:
    """The content of a file of weights."""

    card: WeightsCard
    tensors: Mapping[str, Tensor]

    def network(self, space: Any = None) -> nn.Module:
        """The network in eval mode on the CPU, from (B, C, H, W) images in [0, 1] to logits.

        Args:
            space: for one that no table has, such as a script's; None: made from the card.
        Raises:
            ConfigurationError: the space is another one than the card's.
            DataError: the weights are another network's.
        """
        card = self.card
        if space is None:
            space = card.make_space()
        elif space_settings(space) != card.space:
            raise ConfigurationError(f"expected the space {card.space}, got {space_settings(space)}")
        genome = np.array(card.genome, dtype=np.int64)
        params, held = space.cost(genome, card.n_classes).params, sum(each.numel() for each in self.tensors.values())
        if params > held:  # before memory is taken for it
            raise DataError(f"its network has {params} parameters, the file has {held}")
        given: dict[str, Any] = {} if card.normalization is None else {"normalization": card.normalization}
        if card.channels != 3:
            given["in_channels"] = card.channels
        network = seeded(lambda: space.build(genome, card.n_classes, **given), 0).to(getattr(torch, card.dtype))
        wanted = {name: _layout(value) for name, value in network.state_dict().items()}
        found = {name: _layout(value) for name, value in self.tensors.items()}
        for name in [*wanted, *(name for name in found if name not in wanted)]:
            if wanted.get(name) != found.get(name):
                raise DataError(f"its network has {name} {wanted.get(name)}, the file {found.get(name)}")
        network.load_state_dict(dict(self.tensors))
        return network.to(memory_format=getattr(torch, card.memory_format)).eval()


def weights_file(network: nn.Module, card: WeightsCard) -> bytes:
    """The weights of a network as a safetensors file, which tells how to build it.

    Equal networks and cards give equal bytes. Tensors of an auxiliary head, which training alone uses, are left out.
    """
    state = network.state_dict()
    tensors = {name: value.detach().cpu() for name, value in state.items() if not name.startswith("auxiliary.")}
    head, arrays = _head(card, tensors)
    return b"".join([head, *arrays])


def load_weights(path: Path | str, plugin: Sequence[str] = ()) -> nn.Module:
    """The network in a file of weights, in eval mode on the CPU, from images in [0, 1] to logits.

    Every bit of the file is checked; nothing is unpickled or executed. Neither the run nor its data are needed.

    Args:
        plugin: files with the space of the network; nothing that the file names is executed unless it is named here.
    Raises:
        DataError: the file is missing, damaged, or no file of weights; its space is not in evonas, nor in the plugins.
        ConfigurationError: a plugin cannot be loaded.
    """
    load_plugins(plugin)
    weights = read_weights(path)
    with decoding(f"expected weights of a network in {expanded(path)}", _REMEDY):
        return weights.network()


def read_weights(path: Path | str) -> Weights:
    """The card and the tensors of a file of weights, every bit of it checked; see `load_weights`."""
    file = expanded(path)
    with decoding(f"expected weights of a network in {file}", _REMEDY):
        try:
            data = read_regular(file, LARGEST_FILE)
        except FileNotFoundError as error:
            raise DataError("there is no such file") from error
        return parse_weights(data)


def space_settings(space: Any) -> dict[str, Any]:
    """Name and settings of a space as JSON, without those that only change the search."""
    unused = getattr(space, "search_only", ())
    own = {name: value for name, value in part_identity(space).items() if name not in unused}
    return as_plain({"name": space.name, **own})


def parse_weights(content: bytes) -> Weights:
    """The card and the tensors in the content of a file of weights. DataError, or another error, where it is none."""
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(len(content) - 8, _LARGEST_HEADER):
        raise DataError("it does not start with the length of a header, so it is another kind of file, or cut short")
    header = json.loads(content[8 : 8 + length])
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or "evonas" not in metadata:
        raise DataError("its header does not say how to build the network, so it is another kind of file")
    if metadata.keys() != {"evonas", "sha256"}:
        raise DataError("it is of version 0.1.0 or of another kind, and does not say where its weights are from")
    card = WeightsCard.from_json(json.loads(metadata["evonas"]))
    tensors = safetensors.torch.load(content)
    if _head(card, tensors)[0] != content[: 8 + length]:
        raise DataError("it is damaged: its header is not the one of its contents")
    return Weights(card, tensors)


def _head(card: WeightsCard, tensors: Mapping[str, Tensor]) -> tuple[bytes, list[bytes]]:
    """The header of a file with its length in 8 bytes, and the tensors that follow, the widest first, then by name."""
    text = json.dumps(asdict(card), separators=(",", ":"), allow_nan=False)
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    arrays = [tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() for name in names]
    entries: dict[str, Any] = {}
    start = 0
    for name, array in zip(names, arrays, strict=True):
        dtype, shape = _layout(tensors[name])
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, start + len(array)]}
        start += len(array)
    digest = hashlib.sha256(json.dumps([text, entries]).encode())
    for array in arrays:
        digest.update(array)
    header = {"__metadata__": {"evonas": text, "sha256": digest.hexdigest()}, **entries}
    packed = json.dumps(header, separators=(",", ":")).encode()
    packed += b" " * (-len(packed) % 8)
    return len(packed).to_bytes(8, "little") + packed, arrays


def _layout(tensor: Tensor) -> tuple[str, list[int]]:
    """(type as files name it, shape) of a tensor."""
    if tensor.dtype not in DTYPES:
        raise ConfigurationError(f"expected tensors that a file can hold, got {tensor.dtype}; see --keep-weights none")
    return DTYPES[tensor.dtype], list(tensor.shape)


def _channels_last(tensor: Tensor) -> bool:
    last: bool = tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return last and not tensor.is_contiguous()


def _checked(kind: Any, value: Any, what: str) -> dict[str, Any]:
    """The values of a dataclass in JSON, lists as tuples. DataError for other keys or types."""
    hints = get_type_hints(kind)
    if not isinstance(value, dict) or value.keys() != hints.keys():
        got = sorted(value) if isinstance(value, dict) else value
        raise DataError(f"its {what} has not the keys {', '.join(hints)}, but {got!r:.100}")
    for name, hint in hints.items():
        if not is_dataclass(hint) and not fits(value[name], hint):
            raise DataError(f"the {name} of its {what} is {value[name]!r:.60}")
    if "space" in hints and not isinstance(value["space"].get("name"), str):
        raise DataError("its space has no name")
    return {name: each if isinstance(each, dict) else _as_tuples(each) for name, each in value.items()}


def _check_settings(kind: Any, given: Mapping[str, Any]) -> None:
    """ConfigurationError unless a dataclass has settings of these names and types."""
    hints, known = get_type_hints(kind), {each.name for each in fields(kind)}
    for name, value in given.items():
        if name not in known or not fits(value, hints[name]):
            raise ConfigurationError(f"expected the settings of {kind.__name__}, got {name} {value!r:.60}")
        ours = kind.__module__.startswith("evonas.")
        if ours and isinstance(value, int | float) and value > _LARGEST_SETTING:
            raise ConfigurationError(f"expected {name} of at most {_LARGEST_SETTING}, got {value}")


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value
