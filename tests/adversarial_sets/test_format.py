"""Adversarial sets: assembled by hand-made rules, written, read back equal, and refused where they make no sense."""

import copy
import errno
import hashlib
import json
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from cards import card, target

from evonas.adversarial_sets.card import Card, CardData
from evonas.adversarial_sets.contents import RECORD_COLUMNS, AdversarialSet, Contents, Piece, assemble, image_digests
from evonas.adversarial_sets.format import load_adversarial_set, save_adversarial_set
from evonas.errors import DataError, StorageError, UnknownNameError

CLEAN = np.random.default_rng(0).integers(256, size=(6, 3, 2, 2), dtype=np.uint8)
LABELS = np.array([2, 0, 1, 0, 1, 2])
BRIGHT, DARK = CLEAN ^ np.uint8(1), CLEAN ^ np.uint8(2)
"""Two adversarial images of each clean one."""


def piece(target: int, attack: str, threshold: int, images: np.ndarray, sources: list[int]) -> Piece:
    index = np.array(sources, dtype=np.int64)
    return Piece(
        target=target, attack=attack, threshold=threshold, images=images[index], labels=LABELS[index], sources=index
    )


PIECES = (
    piece(0, "L0", 1, BRIGHT, [4, 1]),
    piece(0, "Linf", 3, DARK, []),
    piece(1, "L0", 1, DARK, [1, 5]),
    piece(1, "Linf", 3, BRIGHT, [1, 2]),
)
"""The second target's Linf part finds one image that the first one's L0 part has."""


def card_of(contents: Contents, pieces: tuple[Piece, ...] = PIECES) -> Card:
    data = CardData(
        name="digits",
        n_classes=3,
        image_size=2,
        mean=(0.5, 0.5, 0.5),
        deviation=(0.25, 0.25, 0.25),
        train_images=20,
        adversarial_images=len(CLEAN),
        train_fingerprint="aa",
        adversarial_fingerprint="bb",
        split_seed=1,
    )
    return card(contents, data, (target("LeNet"), target("ResNet")), pieces, "tiny")


def tiny_set() -> AdversarialSet:
    """Five images of 2x2 pixels, six records, four sources."""
    contents = assemble(PIECES, CLEAN)
    return AdversarialSet(*contents, card=card_of(contents))


def smallest_set() -> AdversarialSet:
    """One image, one record, one cell."""
    pieces = (piece(0, "L0", 1, BRIGHT, [3]),)
    contents = assemble(pieces, CLEAN)
    whole = card_of(contents, pieces)
    return AdversarialSet(*contents, card=replace(whole, targets=whole.targets[:1]))


def written(arrays: dict[str, np.ndarray], card: str, **changes: Any) -> bytes:
    """A set's file by the format's definition, with a valid hash over whatever it is given.

    8 bytes of length, JSON padded with spaces to a multiple of 8, then labels, records, source_index, images and
    sources as they lie in memory; the hash is over the card's text and the arrays.
    """
    fields = ("labels", "records", "source_index", "images", "sources")
    order: list[str] = [name for name in fields if name in arrays]
    order += [name for name in arrays if name not in order]
    body = b"".join(arrays[name].tobytes() for name in order)
    metadata = {"card": card, "sha256": hashlib.sha256(card.encode() + body).hexdigest()}
    header: dict[str, Any] = {"__metadata__": {**metadata, **changes}}
    start = 0
    for name in order:
        dtype = {"int64": "I64", "uint8": "U8", "int32": "I32", "float32": "F32"}[arrays[name].dtype.name]
        end = start + arrays[name].nbytes
        header[name] = {"dtype": dtype, "shape": list(arrays[name].shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + body


def arrays_of(the_set: AdversarialSet) -> dict[str, np.ndarray]:
    return dict(the_set.contents._asdict())


def card_text(card: Card) -> str:
    return json.dumps(card.to_json(), separators=(",", ":"))


def test_assembling_keeps_each_image_once_in_the_order_of_appearance() -> None:
    contents = assemble(PIECES, CLEAN)
    assert np.array_equal(contents.images, np.stack([BRIGHT[4], BRIGHT[1], DARK[1], DARK[5], BRIGHT[2]]))
    assert contents.labels.tolist() == [1, 0, 0, 2, 1]
    assert RECORD_COLUMNS == ("image", "target", "attack", "threshold", "source")
    assert contents.records.tolist() == [
        [0, 0, 0, 1, 4],
        [1, 0, 0, 1, 1],
        [2, 1, 0, 1, 1],
        [3, 1, 0, 1, 5],
        [1, 1, 1, 3, 1],
        [4, 1, 1, 3, 2],
    ]
    assert contents.source_index.tolist() == [1, 2, 4, 5]
    assert contents.sources[0].tobytes() == hashlib.sha256(CLEAN[1].tobytes()).digest()
    assert contents.counts() == {"images": 5, "images_l0": 4, "images_linf": 2, "records": 6, "sources": 4}
    assert contents.mask("L0").tolist() == [True, True, True, True, False]
    assert contents.mask("Linf").tolist() == [False, True, False, False, True]
    assert [array.dtype.name for array in contents] == ["uint8", "int64", "int64", "uint8", "int64"]
    with pytest.raises(UnknownNameError, match="unknown part 'L2'; known: L0, Linf"):
        contents.mask("L2")


def test_one_image_with_two_labels_stays_two() -> None:
    same = np.stack([BRIGHT[0], BRIGHT[0]])
    one = Piece(target=0, attack="L0", threshold=1, images=same, labels=np.array([2, 0]), sources=np.array([0, 1]))
    contents = assemble([one], CLEAN)
    assert (len(contents.images), contents.labels.tolist()) == (2, [2, 0])
    assert contents.records[:, 0].tolist() == [0, 1]


def test_digests_are_over_each_images_own_bytes() -> None:
    turned = CLEAN.transpose(0, 1, 3, 2)
    expected = [hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest() for image in turned]
    assert [digest.tobytes() for digest in image_digests(turned)] == expected
    assert image_digests(CLEAN[:0]).shape == (0, 32)


def test_clean_twins_are_found_wherever_they_are() -> None:
    the_set = tiny_set()
    assert the_set.count_clean_twins(CLEAN) == 4  # 0 and 3 are behind no image
    assert the_set.count_clean_twins(np.concatenate([CLEAN[[1, 1, 0]], BRIGHT])) == 2
    assert the_set.count_clean_twins(CLEAN[:0]) == 0


@pytest.mark.parametrize("make", [tiny_set, smallest_set])
def test_a_set_reloads_as_it_was_written(make: Callable[[], AdversarialSet], tmp_path: Path) -> None:
    the_set = make()
    save_adversarial_set(tmp_path / "sets" / "tiny", the_set)
    assert sorted(path.name for path in (tmp_path / "sets").iterdir()) == ["tiny.json", "tiny.md", "tiny.safetensors"]
    for path in (tmp_path / "sets/tiny", tmp_path / "sets/tiny.safetensors", str(tmp_path / "sets/tiny")):
        again = load_adversarial_set(path)
        assert again == the_set
        assert again.card == the_set.card
        assert hash(again) == hash(the_set)
        assert len(again) == len(the_set.images)
        for name, array in arrays_of(the_set).items():
            assert np.array_equal(getattr(again, name), array), name
            assert getattr(again, name).dtype == array.dtype


def test_a_name_with_dots_keeps_them(tmp_path: Path) -> None:
    save_adversarial_set(tmp_path / "digits.v1.2", tiny_set())
    assert (tmp_path / "digits.v1.2.safetensors").exists()
    assert load_adversarial_set(tmp_path / "digits.v1.2") == tiny_set()


def test_the_file_is_what_the_format_says_and_any_safetensors_reader_reads_it(tmp_path: Path) -> None:
    the_set = tiny_set()
    save_adversarial_set(tmp_path / "tiny", the_set)
    path = tmp_path / "tiny.safetensors"
    assert path.read_bytes() == written(arrays_of(the_set), card_text(the_set.card))
    tensors = safetensors.numpy.load_file(path)
    assert tensors.keys() == arrays_of(the_set).keys()
    assert all(np.array_equal(tensors[name], array) for name, array in arrays_of(the_set).items())
    with safetensors.safe_open(path, "np") as file:
        assert Card.from_json(json.loads(file.metadata()["card"])) == the_set.card
    card = json.loads((tmp_path / "tiny.json").read_text())
    assert card.pop("sha256") == hashlib.sha256(path.read_bytes()).hexdigest()
    assert Card.from_json(card) == the_set.card
    page = (tmp_path / "tiny.md").read_text()
    assert f"SHA-256 of the file: {hashlib.sha256(path.read_bytes()).hexdigest()}" in page
    assert f"fingerprint: {the_set.fingerprint}" in page
    assert page.startswith("# tiny\n\n> **Warning:** the set has 5 images")


def test_the_same_set_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_adversarial_set(tmp_path / name, tiny_set())
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_the_fingerprint_is_over_what_scores_depend_on() -> None:
    the_set = tiny_set()
    contents, card = the_set.contents, the_set.card
    slower = replace(card, cells=tuple(replace(cell, seconds=9.0) for cell in card.cells), versions={}, threads=2)
    assert AdversarialSet(*contents, card=slower) == the_set
    images = contents.images.copy()
    images[0, 0, 0, 0] ^= 4
    lenet, resnet = card.targets
    others = [
        AdversarialSet(*contents._replace(images=images), card=card),
        AdversarialSet(*contents._replace(sources=contents.sources ^ np.uint8(1)), card=card),
        AdversarialSet(*contents, card=replace(card, data=replace(card.data, n_classes=4))),
        AdversarialSet(
            *contents,
            card=replace(
                card,
                targets=(lenet, replace(resnet, name="DenseNet")),
                cells=tuple(replace(c, target=c.target.replace("ResNet", "DenseNet")) for c in card.cells),
            ),
        ),
    ]
    assert len({the_set, *others}) == 5
    assert len(the_set.fingerprint) == 64
    assert the_set != the_set.fingerprint


def test_a_set_travels_to_another_process(tmp_path: Path) -> None:
    save_adversarial_set(tmp_path / "tiny", tiny_set())
    for the_set in (tiny_set(), load_adversarial_set(tmp_path / "tiny")):
        for again in (pickle.loads(pickle.dumps(the_set)), copy.deepcopy(the_set)):
            assert again == the_set
            assert again.card == the_set.card
            assert again.mask("Linf").tolist() == [False, True, False, False, True]
    fields = tiny_set().contents._asdict()
    frozen = Contents(**{name: array.copy() for name, array in fields.items()})
    for array in frozen:
        array.flags.writeable = False
    assert AdversarialSet(*frozen, card=tiny_set().card) == tiny_set()


def test_no_success_is_no_set() -> None:
    contents = assemble((), CLEAN)
    assert (contents.images.shape, contents.records.shape, contents.sources.shape) == ((0, 3, 2, 2), (0, 5), (0, 32))
    with pytest.raises(DataError, match="expected at least one adversarial image, got none: no target was fooled"):
        AdversarialSet(*contents, card=card_of(contents, ()))


def changed(name: str, change: Callable[[np.ndarray], Any]) -> Callable[[Contents], Contents]:
    def result(contents: Contents) -> Contents:
        array = getattr(contents, name).copy()
        given = change(array)
        return contents._replace(**{name: array if given is None else given})

    return result


def put(name: str, place: Any, value: int) -> Callable[[Contents], Contents]:
    return changed(name, lambda array: array.__setitem__(place, value))


STRANGE_CONTENTS: dict[str, tuple[Callable[[Contents], Contents], str]] = {
    "images of another type": (
        changed("images", lambda a: a.astype(np.float32)),
        r"images of type U8 \(5, 3, 2, 2\), got float32",
    ),
    "images of another shape": (changed("images", lambda a: a.reshape(5, 3, 4, 1)), r"got uint8 \(5, 3, 4, 1\)"),
    "grey images": (changed("images", lambda a: a[:, :1].copy()), r"got uint8 \(5, 1, 2, 2\)"),
    "flat images": (changed("images", lambda a: a.reshape(5, 12)), r"got uint8 \(5, 12\)"),
    "too few images": (changed("images", lambda a: a[:4].copy()), r"got uint8 \(4, 3, 2, 2\)"),
    "labels of another type": (
        changed("labels", lambda a: a.astype(np.int32)),
        r"labels of type I64 \(5,\), got int32",
    ),
    "labels in a column": (changed("labels", lambda a: a[:, None].copy()), r"got int64 \(5, 1\)"),
    "records with four columns": (changed("records", lambda a: a[:, :4].copy()), r"records of type I64 \(4, 5\)"),
    "short digests": (changed("sources", lambda a: a[:, :31].copy()), r"sources of type U8 \(4, 32\)"),
    "too few digests": (changed("sources", lambda a: a[:3].copy()), r"sources of type U8 \(4, 32\), got uint8 \(3, 32"),
    "a label too large": (put("labels", 0, 3), r"expected labels in \[0, 3\)"),
    "a negative label": (put("labels", 0, -1), r"expected labels in \[0, 3\)"),
    "a record of no image": (put("records", (0, 0), 5), "expected records of existing images"),
    "a record of a negative image": (put("records", (0, 0), -1), "expected records of existing images"),
    "a record of no target": (put("records", (0, 1), 2), "expected records of targets on the card"),
    "a record of no attack": (put("records", (0, 2), 2), "expected records of the attacks L0 and Linf"),
    "a source outside": (put("source_index", 3, 6), r"expected sources in \[0, 6\)"),
    "a source that no record has": (put("source_index", 1, 3), "expected exactly the sources of its records"),
    "a record of an unknown source": (put("records", (0, 4), 0), "expected exactly the sources of its records"),
    "sources in another order": (changed("source_index", lambda a: a[::-1].copy()), "expected sources in ascending"),
    "a source of two classes": (put("labels", 1, 1), "expected one class per source"),
    "an image without a record": (put("records", (5, 0), 1), "expected a record for every image"),
    "an image twice": (
        lambda c: c._replace(images=c.images[[0, 1, 1, 3, 4]]),
        "expected distinct images, got one twice",
    ),
    "a clean image": (
        changed("images", lambda a: a.__setitem__(0, CLEAN[4])),
        "expected images that differ from their clean ones",
    ),
    "another threshold": (put("records", (0, 3), 3), r"expected the cell of target 0, L0, th [13] to have"),
    "an unknown threshold": (put("records", (0, 3), -(2**63)), r"expected the cell of target 0, L0, th"),
    "another cell": (put("records", (0, 1), 1), r"expected the cell of target [01], L0, th 1 to have"),
}


@pytest.mark.parametrize("kind", STRANGE_CONTENTS)
def test_contents_that_make_no_sense_are_refused_in_memory_and_on_disk(kind: str, tmp_path: Path) -> None:
    """A file with a valid hash over strange contents is refused all the same, by the same rule."""
    change, message = STRANGE_CONTENTS[kind]
    the_set = tiny_set()
    strange = change(the_set.contents)
    with pytest.raises(DataError, match=message):
        AdversarialSet(*strange, card=the_set.card)
    (tmp_path / "x.safetensors").write_bytes(written(strange._asdict(), card_text(the_set.card)))
    typed = strange.images.dtype == np.uint8 and strange.labels.dtype == np.int64
    with pytest.raises(DataError, match=message if typed else "its arrays are not of the types") as caught:
        load_adversarial_set(tmp_path / "x")
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "x.safetensors") in str(caught.value)
    assert "python experiments/build_adversarial_set.py" in str(caught.value)


def test_a_source_twice_in_a_cell() -> None:
    """An attack is tried once on an image, so two results of one clean image in one cell are no attack's."""
    twice = Piece(
        target=0,
        attack="L0",
        threshold=1,
        images=np.stack([BRIGHT[1], DARK[1]]),
        labels=LABELS[[1, 1]],
        sources=np.array([1, 1]),
    )
    contents = assemble((twice,), CLEAN)
    with pytest.raises(DataError, match="expected each source once in a cell, but that does not hold"):
        AdversarialSet(*contents, card=card_of(contents, (twice,)))


@pytest.mark.parametrize("field", ["images", "images_l0", "images_linf", "sources"])
def test_a_card_that_counts_otherwise(field: str) -> None:
    contents = assemble(PIECES, CLEAN)
    card = card_of(contents)
    less = replace(card, **{field: getattr(card, field) - (1 if field in ("images", "sources") else 0)})
    if less == card:  # its other part is too small as well, so more is asked for
        less = replace(card, **{field: getattr(card, field) + 1})
    with pytest.raises(DataError, match=f"expected the card's {field} to be {getattr(card, field)}, as its arrays"):
        AdversarialSet(*contents, card=less)


def test_a_cell_that_counts_otherwise() -> None:
    contents = assemble(PIECES, CLEAN)
    card = card_of(contents)
    first, _, third, fourth = card.cells
    moved = (replace(first, successful=3), card.cells[1], replace(third, successful=1), fourth)
    with pytest.raises(DataError, match=r"th 1 to have 2 successes, as the records have; the card has [13]"):
        AdversarialSet(*contents, card=replace(card, cells=moved))


def test_a_missing_set_says_how_to_build_one(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_adversarial_set(tmp_path / "none")
    assert str(caught.value) == (
        f"expected an adversarial set in {tmp_path / 'none.safetensors'}: there is no such file; copy it there again, "
        "or build one (python experiments/build_adversarial_set.py)"
    )


def test_a_file_alone_is_enough_and_a_card_of_another_file_is_refused(tmp_path: Path) -> None:
    save_adversarial_set(tmp_path / "a", tiny_set())
    save_adversarial_set(tmp_path / "b", smallest_set())
    (tmp_path / "alone.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes())
    assert load_adversarial_set(tmp_path / "alone") == tiny_set()
    (tmp_path / "a.safetensors").write_bytes((tmp_path / "b.safetensors").read_bytes())
    with pytest.raises(DataError, match=r"a.json to describe a.safetensors: its SHA-256 is not that of the file, "):
        load_adversarial_set(tmp_path / "a")
    (tmp_path / "a.json").unlink()
    assert load_adversarial_set(tmp_path / "a") == smallest_set()


def test_a_card_that_was_changed_is_refused(tmp_path: Path) -> None:
    save_adversarial_set(tmp_path / "a", tiny_set())
    card = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps({**card, "preset": "paper"}))
    with pytest.raises(DataError, match=r"a.json to describe a.safetensors: it differs from the card inside the file"):
        load_adversarial_set(tmp_path / "a")
    (tmp_path / "a.json").write_text(json.dumps(card))  # laid out otherwise, and the same
    assert load_adversarial_set(tmp_path / "a") == tiny_set()


def test_writing_again_never_leaves_a_file_beside_another_files_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full at each of the three files in turn: what is there loads, as the old set or as the new one."""
    expected = [tiny_set(), smallest_set(), smallest_set()]
    for place, name in enumerate(("a.safetensors", "a.json", "a.md")):
        save_adversarial_set(tmp_path / "a", tiny_set())
        rename = os.replace

        def full(source: Any, target: Any, name: str = name, rename: Any = rename) -> None:
            if Path(target).name == name:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            rename(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", full)
            with pytest.raises(StorageError, match=f"could not write .*{name}: No space left"):
                save_adversarial_set(tmp_path / "a", smallest_set())
        assert load_adversarial_set(tmp_path / "a") == expected[place]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.md", "a.safetensors"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="could not write"):
        save_adversarial_set(tmp_path / "file" / "set", tiny_set())
