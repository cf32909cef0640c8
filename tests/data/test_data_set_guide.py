"""The guide to data sets: its script runs as pasted, and its data set loads from its table line."""

import inspect
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from helpers import applied

from evonas.data import load_data, loader
from evonas.data.source import DataSetEntry
from evonas.errors import DataError

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "data-set.md").read_text()
BLOCKS = dict(re.findall(r'^```python title="([\w/.]+)"\n(.*?)^```', GUIDE, re.M | re.S))
((_, DIFF),) = re.findall(r'^```diff title="([\w/.]+)"\n(.*?)^```', GUIDE, re.M | re.S)


def test_the_script_of_the_guide_runs(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(BLOCKS["own_images.py"], "own_images.py", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.splitlines() == [
        "{'train': 340, 'validation': 40, 'adversarial': 20, 'test': 50}",
        "True",
    ]


def test_the_data_set_of_the_guide_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    letters = ModuleType("evonas.data.letters")
    exec(compile(BLOCKS["evonas/data/letters.py"], "letters.py", "exec"), vars(letters))
    monkeypatch.setitem(sys.modules, letters.__name__, letters)
    table = {"__name__": "evonas.data.loader"}
    exec(compile(applied(inspect.getsource(loader), DIFF), "loader.py", "exec"), table)
    monkeypatch.setattr(loader, "DATA_SETS", table["DATA_SETS"])
    with pytest.raises(DataError, match=r"^expected letters/images\.npy and letters/labels\.npy below .*; put them"):
        load_data("letters", tmp_path)
    entry = loader.DATA_SETS["letters"]
    assert isinstance(entry, DataSetEntry)
    assert not entry.found(tmp_path)
    (tmp_path / "letters").mkdir()
    np.save(tmp_path / "letters" / "images.npy", np.full((26 * 8, 28, 28), 7, dtype=np.uint8))
    np.save(tmp_path / "letters" / "labels.npy", np.arange(26 * 8) % 26)
    assert entry.found(tmp_path)
    data = load_data("letters", tmp_path)
    assert (data.n_classes, data.image_size, len(data.test)) == (26, 32, 26 * 2)
    assert np.unique(data.train.images[:, :, 2:-2, 2:-2]).tolist() == [7]
    assert data.train.images[:, :, :2].max() == 0
