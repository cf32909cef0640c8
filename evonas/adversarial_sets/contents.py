"""An adversarial set in memory: its arrays, their assembly, and their consistency checks."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from evonas.adversarial_sets.card import ATTACK_NAMES, Card
from evonas.errors import DataError, UnknownNameError

__all__ = [
    "RECORD_COLUMNS",
    "TENSORS",
    "AdversarialSet",
    "Contents",
    "Piece",
    "assemble",
    "image_digests",
    "stored_bytes",
]

Images = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

RECORD_COLUMNS = ("image", "target", "attack", "threshold", "source")
TENSORS = {"labels": "I64", "records": "I64", "source_index": "I64", "images": "U8", "sources": "U8"}
"""Array -> type, in the order of the file."""

_DTYPES = {"I64": np.dtype("<i8"), "U8": np.dtype("u1")}
_SHAPES: dict[str, tuple[int | str, ...]] = {
    "labels": ("N",),
    "records": ("R", len(RECORD_COLUMNS)),
    "source_index": ("S",),
    "images": ("N", 3, "H", "H"),
    "sources": ("S", 32),
}


class Contents(NamedTuple):
    """The arrays of a set."""

    images: Images
    """(N, 3, H, W) distinct adversarial images."""
    labels: Integers
    """(N,) true classes of the images."""
    records: Integers
    """(R, 5) one row per success, see `RECORD_COLUMNS`: row of `images`; index into the card's targets; index into
    `ATTACK_NAMES`; th; index of the clean image in the data's adversarial part."""
    sources: Images
    """(S, 32) SHA-256 of each clean image's bytes."""
    source_index: Integers
    """(S,) index of each clean image in the data's adversarial part, ascending."""

    def counts(self) -> dict[str, int]:
        """The counts on a `Card`: images, images_l0, images_linf, records, sources."""
        parts = {f"images_{name.lower()}": int(self.mask(name).sum()) for name in ATTACK_NAMES}
        return {"images": len(self.images), **parts, "records": len(self.records), "sources": len(self.sources)}

    def mask(self, attack: str) -> npt.NDArray[np.bool_]:
        """(N,) whether an image belongs to the part `attack`, L0 or Linf; it may belong to both."""
        if attack not in ATTACK_NAMES:
            raise UnknownNameError(f"unknown part {attack!r}; known: {', '.join(ATTACK_NAMES)}")
        found = np.zeros(len(self.images), dtype=np.bool_)
        found[self.records[self.records[:, 2] == ATTACK_NAMES.index(attack), 0]] = True
        return found


@dataclass(frozen=True, eq=False)
class AdversarialSet:
    """Images that fooled target networks, on which other networks are scored; see `Contents` for the arrays.

    It measures transferred, not white-box, robustness. Compares by fingerprint.

    Raises:
        DataError: arrays and card do not fit together.
    """

    images: Images
    labels: Integers
    records: Integers
    sources: Images
    source_index: Integers
    card: Card

    def __post_init__(self) -> None:
        _check(self.contents, self.card)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def contents(self) -> Contents:
        return Contents(self.images, self.labels, self.records, self.sources, self.source_index)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over everything that scores depend on: arrays, number of classes, names of targets; not timings."""
        names = [target.name for target in self.card.targets]
        digest = hashlib.sha256(json.dumps([self.card.data.n_classes, names]).encode())
        for name in TENSORS:
            array = getattr(self, name)
            digest.update(f"{name}{array.shape}".encode())
            digest.update(stored_bytes(array))
        return digest.hexdigest()

    def mask(self, attack: str) -> npt.NDArray[np.bool_]:
        """(N,) whether an image belongs to the part `attack`, L0 or Linf; it may belong to both."""
        return self.contents.mask(attack)

    def image_sources(self) -> Integers:
        """(N,) row of `sources` of the clean image that each image was made from, the first one of several."""
        index = np.searchsorted(self.source_index, self.records[:, 4])
        found = np.empty(len(self), dtype=np.int64)
        found[self.records[::-1, 0]] = index[::-1]  # of equal rows the last assignment stands: the first record
        return found

    def count_clean_twins(self, images: Images) -> int:
        """Number of these (N, 3, H, W) uint8 images that equal the clean image of an adversarial one, bit for bit."""
        clean = {digest.tobytes() for digest in self.sources}
        return sum(digest.tobytes() in clean for digest in image_digests(images))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AdversarialSet) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """The successes of one target under one attack at one threshold."""

    target: int
    """Index into the card's targets."""
    attack: str
    """L0 or Linf."""
    threshold: int
    images: Images
    """(k, 3, H, W) adversarial images."""
    labels: Integers
    """(k,) true classes."""
    sources: Integers
    """(k,) indices of the clean images in the data's adversarial part."""


def assemble(pieces: Iterable[Piece], clean_images: Images) -> Contents:
    """Distinct images and a record for every success, both in the order of the pieces.

    Images are equal if pixels and labels are.

    Args:
        clean_images: (n, 3, H, W) uint8, the data's adversarial part.
    """
    rows: dict[tuple[bytes, int], int] = {}
    images, labels, records = [], [], []
    for piece in pieces:
        attack = ATTACK_NAMES.index(piece.attack)
        digests = image_digests(piece.images)
        for image, digest, label, source in zip(piece.images, digests, piece.labels, piece.sources, strict=True):
            key = (digest.tobytes(), int(label))
            if key not in rows:
                rows[key] = len(rows)
                images.append(image)
                labels.append(int(label))
            records.append((rows[key], piece.target, attack, piece.threshold, int(source)))
    index = np.array(sorted({record[-1] for record in records}), dtype=np.int64)
    return Contents(
        images=np.stack(images) if images else clean_images[:0],
        labels=np.array(labels, dtype=np.int64),
        records=np.array(records, dtype=np.int64).reshape(-1, len(RECORD_COLUMNS)),
        sources=image_digests(clean_images[index]),
        source_index=index,
    )


def image_digests(images: Images) -> Images:
    """(N, 32) SHA-256 of the bytes of each (3, H, W) uint8 image."""
    digests = b"".join(hashlib.sha256(np.ascontiguousarray(image).data).digest() for image in images)
    return np.frombuffer(digests, dtype=np.uint8).reshape(-1, 32).copy()


def stored_bytes(array: npt.NDArray[Any]) -> memoryview:
    """The bytes of an array in the file: row-major, little-endian."""
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).data


def _check(contents: Contents, card: Card) -> None:
    """DataError for arrays that do not fit each other or the card."""
    images, labels, records, _, source_index = contents
    sizes = {"N": labels.size, "R": records.size // 5, "S": source_index.size, "H": card.data.image_size}
    for name, shape in _SHAPES.items():
        array, expected = getattr(contents, name), tuple(sizes.get(str(each), each) for each in shape)
        if array.dtype != _DTYPES[TENSORS[name]] or array.shape != expected:
            raise DataError(f"expected {name} of type {TENSORS[name]} {expected}, got {array.dtype} {array.shape}")
    if not len(records):
        raise DataError("expected at least one adversarial image, got none: no target was fooled")
    row, target, attack, _, source = records.T
    clean, n_clean = set(source_index.tolist()), card.data.adversarial_images
    rules: dict[str, Callable[[], bool | np.bool_]] = {
        f"labels in [0, {card.data.n_classes})": lambda: _within(labels, card.data.n_classes),
        "records of existing images": lambda: _within(row, len(images)),
        "records of targets on the card": lambda: _within(target, len(card.targets)),
        "records of the attacks L0 and Linf": lambda: _within(attack, len(ATTACK_NAMES)),
        f"sources in [0, {n_clean})": lambda: _within(source_index, n_clean),
        "sources in ascending order": lambda: (np.diff(source_index) > 0).all(),
        "a record for every image": lambda: len(np.unique(row)) == len(images),
        "exactly the sources of its records": lambda: set(source.tolist()) == clean,
        "one class per source": lambda: len(set(zip(source.tolist(), labels[row].tolist(), strict=True))) == len(clean),
        "each source once in a cell": lambda: len(set(map(tuple, records[:, 1:].tolist()))) == len(records),
    }
    for rule, holds in rules.items():
        if not holds():
            raise DataError(
                f"expected {rule}, but that does not hold: the set is damaged, or was not written by this package"
            )
    _check_images(contents)
    _check_counts(contents, card)


def _check_images(contents: Contents) -> None:
    """DataError for a repeated image, or for one that equals its clean image."""
    digests = [digest.tobytes() for digest in image_digests(contents.images)]
    if len(set(zip(digests, contents.labels.tolist(), strict=True))) < len(digests):
        raise DataError("expected distinct images, got one twice; `assemble` stores each once")
    clean = dict(zip(contents.source_index.tolist(), map(bytes, contents.sources), strict=True))
    if any(digests[row] == clean[source] for row, *_, source in contents.records.tolist()):
        raise DataError("expected images that differ from their clean ones, got an equal one; no attack made it")


def _check_counts(contents: Contents, card: Card) -> None:
    """DataError for a card with other counts than the arrays."""
    for name, count in contents.counts().items():
        if getattr(card, name) != count:
            raise DataError(f"expected the card's {name} to be {count}, as its arrays have; got {getattr(card, name)}")
    found = Counter(map(tuple, contents.records[:, 1:4].tolist()))
    index = {target.name: place for place, target in enumerate(card.targets)}
    named = {(index[cell.target], ATTACK_NAMES.index(cell.attack), cell.threshold): cell for cell in card.cells}
    for key in sorted(named.keys() | found.keys()):
        successful = named[key].successful if key in named else 0
        if successful != found[key]:
            raise DataError(
                f"expected the cell of target {key[0]}, {ATTACK_NAMES[key[1]]}, th {key[2]} to have {found[key]} "
                f"successes, as the records have; the card has {successful}"
            )


def _within(values: Integers, end: int) -> bool:
    """Whether all values are in [0, end)."""
    return bool(((values >= 0) & (values < end)).all())
