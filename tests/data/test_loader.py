"""From a name to a data set, and what a user reads who cannot have it."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from evonas.data import DATA_SETS, data_root, load_data, resolve_data, terms_of
from evonas.data.torchvision_sets import TORCHVISION_SETS
from evonas.errors import DataError, EvonasError, UnknownNameError
from evonas.files import waited_lock

DOWNLOADED = sorted(set(DATA_SETS) - {"digits"})


def test_known_data_sets() -> None:
    assert sorted(DATA_SETS) == ["cifar10", "cifar100", "digits", "fashion_mnist", "mnist", "svhn"]


def test_every_data_set_states_its_terms() -> None:
    assert [name for name, entry in DATA_SETS.items() if not entry.terms.endswith(".")] == []
    assert terms_of("svhn").startswith("For non-commercial use only")
    assert terms_of("npz:mine.npz") == "Not known to evonas: they are yours to state."


def test_root_is_the_argument_else_the_environment_else_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EVONAS_DATA", "/from/environment")
    assert data_root(tmp_path) == tmp_path
    assert data_root(str(tmp_path)) == tmp_path
    assert data_root() == Path("/from/environment")
    monkeypatch.setenv("EVONAS_DATA", "")
    assert data_root() == Path("data")
    monkeypatch.delenv("EVONAS_DATA")
    assert data_root() == Path("data")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_root("~/images") == tmp_path / "images"


def test_auto_takes_digits_where_cifar10_is_not_and_says_why(tmp_path: Path) -> None:
    name, because = resolve_data("auto", tmp_path)
    assert name == "digits"
    assert str(tmp_path) in because
    assert "--data cifar10 downloads it (170 MB)" in because
    assert "\n" not in because
    data = load_data("auto", tmp_path)
    assert (data.name, data.chosen_because) == ("digits", because)
    assert data == load_data("digits", tmp_path)
    assert list(tmp_path.iterdir()) == []  # nothing was downloaded


def test_svhn_as_torchvision_stores_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Height, width, channel, number; labels 1 to 10, where 10 is the digit 0."""
    datasets = pytest.importorskip("torchvision.datasets")
    rng, known, made = np.random.default_rng(0), {}, {}
    for split, n in (("train", 6), ("test", 3)):
        images = rng.integers(256, size=(32, 32, 3, n), dtype=np.uint8)
        labels = np.arange(10, 10 - n, -1, dtype=np.uint8)
        path = tmp_path / f"{split}_32x32.mat"
        scipy.io.savemat(path, {"X": images, "y": labels[:, None]})
        known[split] = ["http://nowhere", path.name, hashlib.md5(path.read_bytes()).hexdigest()]
        made[split] = images, labels % 10
    monkeypatch.setattr(datasets.SVHN, "split_list", known)
    source = TORCHVISION_SETS["svhn"](tmp_path)
    for part, (images, labels) in ((source.train, made["train"]), (source.test, made["test"])):
        assert part is not None
        assert np.array_equal(part.images, images.transpose(3, 2, 0, 1))
        assert np.array_equal(part.labels, labels)
    assert not source.flip


DOWNLOADS = """
import os, sys, time
from pathlib import Path
import numpy as np
from evonas.data.source import DataSetEntry, ImageSource, Part, PartSizes

def load(root):
    if not (root / "images").exists():
        (root / "begun").open("x").close()  # FileExistsError where another process downloads
        time.sleep(1)
        (root / "images").touch()
        print("downloaded", flush=True)
    part = Part(np.zeros((8, 3, 4, 4), np.uint8), np.zeros(8, np.int64))
    return ImageSource("some", part, part, PartSizes(1, 1), flip=False)

print(len(DataSetEntry(load, ("images",))(Path(sys.argv[1])).train))
"""


@pytest.mark.slow
def test_of_processes_that_begin_together_one_downloads_and_the_others_wait(tmp_path: Path) -> None:
    root = tmp_path / "root"
    with waited_lock(root / ".downloading.lock", lambda: pytest.fail("nobody is there yet")):
        command = [sys.executable, "-c", DOWNLOADS, str(root)]
        processes = [
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)
        ]
        for each in processes:
            assert each.stdout is not None
            line = f"data: another process is downloading below {root}; waiting for it\n"
            assert each.stdout.readline() == line
    said = [each.communicate(timeout=120) for each in processes]
    assert sorted(said) == [("8\n", ""), ("8\n", ""), ("downloaded\n8\n", "")]
    assert sorted(path.name for path in root.iterdir()) == ["begun", "images"]


def test_auto_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVONAS_DATA", str(tmp_path))
    assert load_data().name == "digits"


def test_auto_takes_cifar10_where_its_files_are(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for file in ("batches.meta", "test_batch", *(f"data_batch_{i}" for i in range(1, 6))):
        assert resolve_data("auto", tmp_path)[0] == "digits"  # until the last one is there
        (folder / file).touch()
    name, because = resolve_data("auto", tmp_path)
    assert name == "cifar10"
    assert str(tmp_path) in because


def test_auto_never_starts_a_download_for_a_folder_without_its_files(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    name, because = resolve_data("auto", tmp_path)
    assert name == "digits"
    assert because


def test_a_name_stands_for_itself() -> None:
    assert resolve_data("mnist") == ("mnist", "")
    assert load_data("digits").chosen_because == ""


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError) as caught:
        load_data("imagenet")
    assert str(caught.value) == (
        "unknown data set 'imagenet'; known: auto, cifar10, cifar100, digits, fashion_mnist, mnist, npz:PATH, svhn"
    )


@pytest.mark.parametrize("name", DOWNLOADED)
def test_asked_for_by_name_and_not_to_be_had_is_one_clear_line(name: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.write_text("a file where a folder would have to be: nothing can be downloaded to it")
    with pytest.raises(DataError) as caught:
        load_data(name, root)
    message = str(caught.value)
    assert isinstance(caught.value, EvonasError)
    assert message.startswith(f"{name} is not whole below {root} and could not be downloaded (")
    assert "--data-root" in message
    assert "--data digits" in message
    assert "\n" not in message


def test_embedded_digits_need_no_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.touch()
    assert load_data("digits", root).name == "digits"
