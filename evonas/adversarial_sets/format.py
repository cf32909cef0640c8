"""An adversarial set on disk: one safetensors file, with readable copies of its card beside it."""

import contextlib
import hashlib
import io
import json
import os
from pathlib import Path
from typing import IO, Any, Never

import safetensors.numpy

from evonas.adversarial_sets.card import Card
from evonas.adversarial_sets.card_page import card_markdown
from evonas.adversarial_sets.contents import TENSORS, AdversarialSet, Contents, stored_bytes
from evonas.errors import DataError
from evonas.files import decoding, expanded, open_regular, read_regular, replace_file, storage_errors

__all__ = ["LARGEST_FILE", "load_adversarial_set", "save_adversarial_set"]

LARGEST_FILE = 4 * 2**30
"""Limit in bytes, above a set of a million images. Larger files are refused unread."""

_LARGEST_HEADER = 4 * 2**20
"""Limit in bytes on the file's header, which holds the card, and on the card beside it; fits thousands of cells."""

_REMEDY = "copy it there again, or build one (python experiments/build_adversarial_set.py)"


def save_adversarial_set(path: str | Path, the_set: AdversarialSet) -> None:
    """Write PATH.safetensors, PATH.json and PATH.md, each whole or not at all.

    An older card is removed first, so that no crash leaves a file beside another file's card.

    Raises:
        StorageError: the disk is full, the folder cannot be written.
    """
    file, card, page = _files(path)
    head, arrays = _head(the_set), [stored_bytes(getattr(the_set, name)) for name in TENSORS]
    digest = hashlib.sha256(head)
    for array in arrays:
        digest.update(array)
    text = json.dumps({"sha256": digest.hexdigest(), **the_set.card.to_json()}, indent=2, allow_nan=False)
    markdown = card_markdown(the_set.card, the_set.fingerprint, digest.hexdigest())
    with storage_errors(f"write {card}"):
        card.unlink(missing_ok=True)
    replace_file(file, lambda out: out.writelines([head, *arrays]))
    replace_file(card, lambda out: out.write(f"{text}\n".encode()))
    replace_file(page, lambda out: out.write(markdown.encode()))


def load_adversarial_set(path: str | Path) -> AdversarialSet:
    """Read a set and check every bit of its file. Nothing is unpickled or executed.

    PATH may end in .safetensors or not. The file is checked against the hash inside it and, if PATH.json lies beside
    it, against that card. Needs memory of about twice the file's size.

    Raises:
        DataError: the file is missing, damaged or not an adversarial set.
    """
    file, card, _ = _files(path)
    with decoding(f"expected an adversarial set in {file}", _REMEDY):
        try:
            with open_regular(file, LARGEST_FILE) as opened:
                _read_header(opened, os.fstat(opened.fileno()).st_size)
                opened.seek(0)
                data = opened.read()
        except FileNotFoundError as error:
            raise DataError("there is no such file") from error
        the_set = _parsed(data)
    remedy = "copy both again, or remove the card: the file is whole"
    with decoding(f"expected {card} to describe {file.name}", remedy), contextlib.suppress(FileNotFoundError):
        _check_card(read_regular(card, _LARGEST_HEADER), hashlib.sha256(data).hexdigest(), the_set.card)
    return the_set


def _files(path: str | Path) -> tuple[Path, Path, Path]:
    stem = str(expanded(path)).removesuffix(".safetensors")
    return Path(f"{stem}.safetensors"), Path(f"{stem}.json"), Path(f"{stem}.md")


def _read_header(file: IO[bytes], size: int) -> tuple[bytes, dict[str, str]]:
    """(raw header including its length, metadata) of a set's file; DataError unless the file has the declared size."""
    prefix = file.read(8)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or length > min(size - 8, _LARGEST_HEADER):
        raise DataError("it does not start with the length of a header, so it is another kind of file, or cut short")
    raw = file.read(length)
    header = _json(raw)
    if not isinstance(header, dict) or header.keys() != {"__metadata__", *TENSORS}:
        raise DataError(f"its header does not list {', '.join(TENSORS)}, so it is another kind of file")
    metadata = header["__metadata__"]
    if not isinstance(metadata, dict) or metadata.keys() != {"card", "sha256"}:
        raise DataError("its header holds no card, so it is another kind of file")
    try:
        typed = all(header[name]["dtype"] == dtype for name, dtype in TENSORS.items())
        end = max(header[name]["data_offsets"][1] for name in TENSORS)
    except (TypeError, KeyError, IndexError) as error:
        raise DataError("its header does not say where the arrays are") from error
    if not typed:
        raise DataError(f"its arrays are not of the types {TENSORS}")
    if end != size - 8 - length:
        raise DataError(f"its header declares {end} bytes of arrays, but has {size - 8 - length}")
    return prefix + raw, metadata


def _parsed(data: bytes) -> AdversarialSet:
    head, metadata = _read_header(io.BytesIO(data), len(data))
    contents = Contents(**safetensors.numpy.load(data))
    if _content_hash(metadata["card"], contents) != metadata["sha256"]:
        raise DataError("it is damaged: the SHA-256 of its contents is not the one stored in it")
    the_set = AdversarialSet(*contents, card=Card.from_json(_json(metadata["card"])))
    if _head(the_set) != head:
        raise DataError("its header differs from the one that this format writes")
    return the_set


def _check_card(text: bytes, sha256: str, card: Card) -> None:
    """DataError for a card that was written for another file, or changed."""
    value = _json(text)
    if not isinstance(value, dict) or value.pop("sha256", None) != sha256:
        raise DataError(f"its SHA-256 is not that of the file, {sha256}")
    if Card.from_json(value) != card:
        raise DataError("it differs from the card inside the file")


def _json(text: bytes | str) -> Any:
    """Strict JSON: UTF-8, no NaN, no repeated key."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a key occurs twice")
        return dict(pairs)

    def constant(name: str) -> Never:
        raise ValueError(f"{name} is not a number")

    return json.loads(
        text.decode() if isinstance(text, bytes) else text, object_pairs_hook=once, parse_constant=constant
    )


def _head(the_set: AdversarialSet) -> bytes:
    """The header of a set's file: its length in 8 bytes, then JSON padded with spaces, so that arrays are aligned."""
    card = json.dumps(the_set.card.to_json(), separators=(",", ":"), allow_nan=False)
    header: dict[str, Any] = {"__metadata__": {"card": card, "sha256": _content_hash(card, the_set.contents)}}
    start = 0
    for name, dtype in TENSORS.items():
        array = getattr(the_set, name)
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [start, start + array.nbytes]}
        start += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _content_hash(card: str, contents: Contents) -> str:
    """SHA-256 over the card's JSON and the arrays."""
    digest = hashlib.sha256(card.encode())
    for name in TENSORS:
        digest.update(stored_bytes(getattr(contents, name)))
    return digest.hexdigest()
