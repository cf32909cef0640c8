import dataclasses
import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from evonas.errors import ConfigurationError, DataError
from evonas.files import seal
from evonas.ship import LatencyTable, load_table, save_table

TABLE = LatencyTable(
    subject={"space": {"name": "phase"}, "n_classes": 10, "image_size": 32},
    processor="a CPU",
    torch="2.15.0",
    layers={"conv": 0.25, "relu": 0.5},
    scale=2.0,
    overhead=0.125,
    calibrated_on=30,
    tested_on=30,
    median_error=0.03,
    p95_error=0.081,
    slowest=4.0,
)


def written(path: Path, **changes: Any) -> Path:
    """A file whose checksum holds, with other entries."""
    save_table(path, TABLE)
    record = {**json.loads(path.read_text()), **changes}
    del record["checksum"]
    path.write_bytes(seal({name: value for name, value in record.items() if value is not ...}))
    return path


def damaged(data: bytes, rng: random.Random) -> bytes:
    """A bit flipped, bytes cut off, removed, doubled, overwritten, or a number replaced."""
    at, length = rng.randrange(len(data)), rng.choice([1, 8, 64])
    head, middle, tail = data[:at], data[at : at + length], data[at + length :]
    flipped = bytes([middle[0] ^ 1 << rng.randrange(8)]) + middle[1:]
    number = re.sub(rb"[0-9.]+", rng.choice([b"null", b"NaN", b"1e999", b"[[[", b"-1"]), data[at:], count=1)
    kinds = [head + flipped + tail, head, head + tail, head + middle * 2 + tail, head + rng.randbytes(length) + tail]
    return rng.choice([*kinds, head + number])


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as raised:
        load_table(path)
    assert str(raised.value).isprintable()
    return str(raised.value)


def test_a_prediction_by_hand() -> None:
    """2 x (3 x 0.25 + 1 x 0.5) + 4 calls x 0.125."""
    assert TABLE.predict(Counter({"conv": 3, "relu": 1})) == 3.0
    assert TABLE.predict({}) == 0.0


def test_an_unknown_layer_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="layers of the latency table of phase, got pool"):
        TABLE.predict({"conv": 1, "pool": 1})


def test_its_error_in_words() -> None:
    assert TABLE.error == "error on 30 whole networks: median 3.0%, 95th percentile 8.1%"


def test_what_was_written_is_read(tmp_path: Path) -> None:
    save_table(tmp_path / "a.json", TABLE)
    assert load_table(tmp_path / "a.json") == TABLE
    assert load_table(tmp_path / "a.json").fingerprint == TABLE.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(LatencyTable)])
def test_every_field_is_a_part_of_its_fingerprint(field: str) -> None:
    value = getattr(TABLE, field)
    other: Any = (
        f"{value}x" if isinstance(value, str) else {**value, "x": 1.0} if isinstance(value, dict) else value + 1
    )
    changed = dataclasses.replace(TABLE, **{field: other})
    assert changed != TABLE
    assert changed.fingerprint != TABLE.fingerprint


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"format": "evonas latency table 9"}, "another format"),
        ({"scale": ...}, "other entries: scale"),
        ({"added": 1}, "other entries: added"),
        ({"scale": "2"}, "its scale is '2'"),
        ({"scale": True}, "its scale is True"),
        ({"scale": -1.0}, "scale is -1.0"),
        ({"scale": 10**400}, "scale is 1000"),
        ({"tested_on": 1.5}, "its tested_on is 1.5"),
        ({"layers": {"conv": -0.25}}, "conv is -0.25"),
        ({"layers": {"conv": None}}, "its layers is"),
        ({"layers": [0.25]}, "its layers is"),
        ({"subject": []}, "which classes and images"),
        ({"subject": {"space": {"name": "phase"}, "n_classes": 10}}, "which classes and images"),
        ({"subject": {"space": "phase", "n_classes": 10, "image_size": 32}}, "of which space"),
    ],
    ids=str,
)
def test_contents_that_no_table_has_with_a_checksum_that_holds(
    changes: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    assert expected in refusal(written(tmp_path / "a.json", **changes))


def test_a_file_that_is_missing_too_large_or_of_another_kind(tmp_path: Path) -> None:
    assert "there is no such file" in refusal(tmp_path / "a.json")
    assert "it is not a regular file" in refusal(tmp_path)
    (tmp_path / "a.json").write_text('{"format": "other"}\n')
    assert "its checksum does not hold" in refusal(tmp_path / "a.json")
    with (tmp_path / "b.json").open("wb") as file:
        file.truncate(2**26 + 1)  # takes no room on the disk
    assert "the limit is 67108864" in refusal(tmp_path / "b.json")


def test_a_hundred_damaged_files_are_refused_in_a_line(tmp_path: Path) -> None:
    save_table(tmp_path / "whole.json", TABLE)
    whole, refused = (tmp_path / "whole.json").read_bytes(), 0
    for seed in range(100):
        data = damaged(whole, random.Random(seed))
        (tmp_path / "a.json").write_bytes(data)
        if data == whole:  # two damages undid each other
            assert load_table(tmp_path / "a.json") == TABLE
        else:
            assert refusal(tmp_path / "a.json")
            refused += 1
    assert refused > 90
