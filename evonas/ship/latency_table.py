"""A table of the time of layers, from which the latency of any network of a space follows; one file of JSON."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, get_type_hints

from evonas.errors import ConfigurationError, DataError
from evonas.files import decoding, expanded, read_regular, replace_file, seal, unseal
from evonas.parts import as_plain, digest, fits

__all__ = ["LatencyTable", "load_table", "save_table"]

FORMAT = "evonas latency table 1"

_LARGEST_FILE = 2**26
"""Limit in bytes, above a hundred thousand layers. Larger files are refused unread."""

_LARGEST_NUMBER = 1e12
"""Above every number of a table; products of two stay finite."""

_REMEDY = "copy it there again, or remove it and the next search measures another"


@dataclass(frozen=True, eq=False)
class LatencyTable:
    """Milliseconds of every layer of a space, of one image by one thread, and of whole networks by calibration.

    Two tables are equal where all of their content is.
    """

    subject: dict[str, Any]
    """Everything that decides which layers there are: space, classes, image size."""
    processor: str
    """CPU that it was measured on; see `processor`."""
    torch: str
    """Version of torch."""
    layers: dict[str, float]
    """Layer, see `layers_of` -> milliseconds of one call."""
    scale: float
    """Factor on the sum over a network's layers."""
    overhead: float
    """Milliseconds a call that are added to it."""
    calibrated_on: int
    """Networks that scale and overhead were fitted on."""
    tested_on: int
    """Other networks that the errors below were found on."""
    median_error: float
    """Relative error of the predicted latency of whole networks."""
    p95_error: float
    """95th percentile of the relative error."""
    slowest: float
    """Predicted milliseconds of the slowest network."""

    def predict(self, layers: Mapping[str, int]) -> float:
        """Milliseconds of a forward pass of one image by one thread.

        Args:
            layers: of the network, see `layers_of`.
        Raises:
            ConfigurationError: the table lacks one of them.
        """
        for layer in layers:
            if layer not in self.layers:
                raise ConfigurationError(
                    f"expected layers of the latency table of {self.subject['space']['name']}, got {layer}; "
                    "the network is of another space, width or image size"
                )
        own = math.fsum(self.layers[layer] * count for layer, count in layers.items())
        return self.scale * own + self.overhead * sum(layers.values())

    @property
    def image_size(self) -> int:
        """Height and width of the images."""
        return int(self.subject["image_size"])

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of SHA-256 over all of it."""
        return digest(asdict(self))

    @property
    def error(self) -> str:
        """Its error in words."""
        return (
            f"error on {self.tested_on} whole networks: median {100 * self.median_error:.1f}%, "
            f"95th percentile {100 * self.p95_error:.1f}%"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LatencyTable) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)


def save_table(path: Path, table: LatencyTable) -> None:
    """Write a table with a checksum over it, whole or not at all."""
    line = seal({"format": FORMAT, **as_plain(asdict(table))})
    replace_file(path, lambda file: file.write(line))


def load_table(path: str | Path) -> LatencyTable:
    """Read a table and check every bit of its file.

    Raises:
        DataError: the file is missing, damaged or no latency table.
    """
    file = expanded(path)
    with decoding(f"expected a latency table in {file}", _REMEDY):
        try:
            record = unseal(read_regular(file, _LARGEST_FILE))
        except FileNotFoundError as error:
            raise DataError("there is no such file") from error
        if record is None:
            raise DataError("it is damaged or another kind of file: its checksum does not hold")
        if record.pop("format", None) != FORMAT:
            raise DataError(f"it is of another format than {FORMAT!r}")
        _check(record)
        return LatencyTable(**record)


def _check(record: Mapping[str, Any]) -> None:
    """DataError unless a record has the fields of a table, with values that a table can have."""
    hints = get_type_hints(LatencyTable)
    names = {field.name for field in fields(LatencyTable)}
    if record.keys() != names:
        raise DataError(f"it has other entries: {', '.join(sorted(names ^ record.keys()))}")
    for name in names:
        hint = dict[str, Any] if name == "subject" else hints[name]
        if name != "subject" and not fits(record[name], hint):
            raise DataError(f"its {name} is {record[name]!r:.60}")
    subject = record["subject"]
    if not fits(subject, dict[str, Any]) or not fits([subject.get("image_size"), subject.get("n_classes")], list[int]):
        raise DataError("it does not say for which classes and images it is")
    if not fits(subject.get("space"), dict[str, Any]) or not fits(subject["space"].get("name"), str):
        raise DataError("it does not say of which space it is")
    numbers = {name: record[name] for name in names if hints[name] in (int, float)} | record["layers"]
    for name, number in numbers.items():
        if not 0 <= number <= _LARGEST_NUMBER:
            raise DataError(f"{name:.60} is {number!r:.60}")
