"""Run folders that were edited, and paths that cannot be used: one line and exit code 2 from every command."""

import contextlib
import json
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import ROCO, config, run

from evonas.cli import main
from evonas.errors import EvonasError

WRONG: tuple[Any, ...] = (None, True, 5, -1.5, "", "x", [], [2.0], ["x"], {}, {"x": 5})

Change = Callable[[dict[str, Any]], object]


def places(value: Any) -> Iterator[tuple[str | int, ...]]:
    """Paths of everything inside a value of JSON."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inner:
        yield (name,)
        yield from ((name, *path) for path in places(each))


def edited(folder: Path, path: tuple[str | int, ...], value: Any, removed: bool = False) -> None:
    content = config(folder)
    place: Any = content
    for name in path[:-1]:
        place = place[name]
    if removed:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    (folder / "config.json").write_text(json.dumps(content))


def line_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a command that is refused; empty where it works."""
    code = main(words)
    text = capsys.readouterr().err
    assert (code, text.count("\n")) in ((0, 0), (2, 1)), (words, text)
    return text


@pytest.mark.lengthy
@pytest.mark.usefixtures("no_pictures")
def test_every_entry_of_config_json_removed_or_of_another_type(
    copied_run: Path, roco_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng, original = random.Random(0), (copied_run / "config.json").read_text()
    refused, everything = 0, list(places(json.loads(original)))
    for path in [*(path for path in everything if len(path) == 1), *rng.sample(everything, 30)]:
        for removed in (True, False):
            edited(copied_run, path, rng.choice(WRONG), removed)
            command = rng.choice([["show"], ["export"], ["front", str(roco_run)]])
            line = line_of([*command, str(copied_run)], capsys)
            refused += bool(line)
            if path[0] in ("identity", "columns", "reference_point"):
                assert line
            (copied_run / "config.json").write_text(original)
    assert refused > 20


@pytest.mark.slow
def test_edited_settings_are_one_line_where_a_run_is_verified_or_continued(
    copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng, original = random.Random(1), (copied_run / "config.json").read_text()
    for name in list(json.loads(original)["settings"])[::6]:
        edited(copied_run, ("settings", name), rng.choice(WRONG))
        line_of(["verify", str(copied_run)], capsys)
        with contextlib.suppress(EvonasError):
            run(replace(ROCO, out=copied_run))
        (copied_run / "config.json").write_text(original)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("identity", "seed"), 5, "its identity is not that of the journal"),
        (("columns",), "clean_error", "its columns is 'clean_error'"),
        (("columns",), ["x"], "its columns are not those that it measured"),
        (("reference_point", "macs"), "x", "its reference_point is {"),
        (("settings",), [], "its settings is []"),
        (("settings", "data"), 5, "its data is 5"),
        (("measured", "clean_error"), {}, "about"),
    ],
)
def test_the_line_names_what_is_wrong(
    path: tuple[str, ...], value: Any, message: str, copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edited(copied_run, path, value)
    line = line_of(["show", str(copied_run)], capsys)
    assert line.startswith("error: expected the configuration of a run in ")
    assert message in line
    assert "restore it" in line


def test_a_setting_of_another_type_is_named(copied_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edited(copied_run, ("settings", "epochs"), "many")
    assert "expected epochs in the settings of config.json to be int, got 'many'; restore it" in line_of(
        ["verify", str(copied_run)], capsys
    )


@contextlib.contextmanager
def closed(folder: Path) -> Iterator[None]:
    """A folder that may not even be looked into, also by one who has every right: he gives it up for a while."""
    folder.mkdir()
    folder.chmod(0)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


COMMANDS: dict[str, Callable[[str, str], list[str]]] = {
    "show": lambda path, own: ["show", path],
    "export": lambda path, own: ["export", path],
    "verify": lambda path, own: ["verify", path],
    "front": lambda path, own: ["front", path],
    "front --out": lambda path, own: ["front", path, "--out", path],
    "set": lambda path, own: ["set", path],
    "roco --out": lambda path, own: ["roco", "--out", path],
    "tam --out": lambda path, own: ["tam", "--data", "digits", "--out", path],
    "darts --out": lambda path, own: ["darts", "--data", "digits", "--out", path],
    "imagenet --cells": lambda path, own: ["imagenet", "--cells", path, "--out", own],
    "imagenet --data-root": lambda path, own: ["imagenet", "--data-root", path, "--out", own],
    "build-set --out": lambda path, own: ["build-set", "--data", "digits", "--out", path],
    "roco --init-from": lambda path, own: [
        *("roco", "--data", "digits", "--objectives", "clean_error,macs", "--init-from", path, "--out", own)
    ],
    "roco --adversarial-set": lambda path, own: [
        *("roco", "--data", "digits", "--adversarial-set", path, "--out", own)
    ],
    "roco --data npz": lambda path, own: ["roco", "--data", f"npz:{path}", "--out", own],
    "roco --data-root": lambda path, own: ["roco", "--data", "auto", "--data-root", path, "--out", own],
    "roco --data cifar10": lambda path, own: ["roco", "--data", "cifar10", "--data-root", path, "--out", own],
}


@pytest.mark.lengthy
@pytest.mark.parametrize("command", COMMANDS)
def test_a_path_that_is_too_long_is_one_line(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = line_of(COMMANDS[command](str(tmp_path / ("x" * 300)), str(tmp_path / "own")), capsys)
    assert "name too long" in line
    assert not (tmp_path / "own").exists()


@pytest.mark.lengthy
@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "build-set --out"])  # it reads data first
def test_a_folder_without_permission_is_one_line(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["set", str(tmp_path / "none")])  # imports, while everything may be read
    capsys.readouterr()
    with closed(tmp_path / "closed"):
        line = line_of(COMMANDS[command](str(tmp_path / "closed" / "run"), str(tmp_path / "own")), capsys)
    assert "ermission" in line
    assert not (tmp_path / "own").exists()


@pytest.mark.lengthy
@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("roco --data-root", "front --out")])
def test_a_file_in_place_of_a_folder_is_one_line(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert line_of(COMMANDS[command](str(tmp_path / "file" / "inside"), str(tmp_path / "own")), capsys)
    assert not (tmp_path / "own").exists()
