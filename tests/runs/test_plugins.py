"""Plugins: a space, an objective and a recipe from a file, by their names, in every command and in every worker."""

import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from plugin_files import call, new_plugin, process
from tiny_runs import FLAGS, config, contents, journal, rows

import evonas
from evonas.audit import measurements
from evonas.cli import main
from evonas.commands.report import reported_runs
from evonas.errors import ConfigurationError, DataError
from evonas.plugins import load_plugins, plugin_identity
from evonas.report.page_data import page_data
from evonas.ship import load_weights
from evonas.spaces import SPACES
from evonas.training import RECIPES

WORDS = (
    *("--space", "widths", "--objectives", "clean_error,confidence", "--recipe", "smoothed"),
    *("--train-limit", "100", "--val-limit", "50", "--epochs", "2", "--batch-size", "20", "--lr", "0.05"),
    *("--population", "3", "--generations", "1"),
)


class Given(NamedTuple):
    """A finished run with a plugin."""

    plugin: Path
    folder: Path

    @property
    def named(self) -> tuple[str, str]:
        return "--plugin", str(self.plugin)

    def copy(self, folder: Path) -> "Given":
        """The run in another folder, with the same plugin."""
        return Given(self.plugin, Path(shutil.copytree(self.folder, folder / "copied")))

    def with_text(self, folder: Path, text: str) -> "Given":
        """The run with another plugin file of the same name."""
        (folder / self.plugin.name).write_text(text)
        return Given(folder / self.plugin.name, self.folder)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    folder = tmp_path_factory.mktemp("plugin")
    found = Given(new_plugin(folder), folder / "run")
    assert call("roco", *WORDS, *FLAGS, *found.named, "--out", str(found.folder)) == 0
    return found


@pytest.mark.lengthy
class TestARun:
    def test_its_parts_are_found_by_their_names(self, given: Given) -> None:
        identity = config(given.folder)["identity"]
        assert identity["space"] == {"name": "widths", "image_size": 32}
        assert identity["objectives"]["confidence"] == {"images": 50}
        assert identity["training"]["recipe"] == "smoothed"
        assert identity["plugins"] == plugin_identity([str(given.plugin)])
        table = rows(given.folder / "population.csv")
        assert {row["status"] for row in table} == {"ok"}
        assert all(0 < float(row["confidence"]) < 1 for row in table)
        assert config(given.folder)["settings"]["plugin"] == [str(given.plugin)]

    def test_the_same_command_evaluates_nothing_again(self, given: Given) -> None:
        before = journal(given.folder)
        assert call("roco", *WORDS, *FLAGS, *given.named, "--out", str(given.folder)) == 0
        assert journal(given.folder) == before

    def test_where_the_file_is_does_not_matter(self, given: Given, tmp_path: Path) -> None:
        moved = given.with_text(tmp_path, given.plugin.read_text()).copy(tmp_path)
        assert call("verify", str(moved.folder), *moved.named, "--retrain", "best") == 0
        assert call("roco", *WORDS, *FLAGS, *moved.named, "--out", str(moved.folder)) == 0
        assert journal(moved.folder) == journal(given.folder)

    @pytest.mark.slow
    def test_workers_in_other_processes_have_it(self, given: Given, tmp_path: Path) -> None:
        flags = [word for word in FLAGS if word not in ("--executor", "local")]
        workers = ("--executor", "process", "--workers", "2")
        assert call("roco", *WORDS, *flags, *workers, *given.named, "--out", str(tmp_path / "run")) == 0

        def results(folder: Path) -> set[str]:
            return {f"{line['key']} {line['objectives']} {line['status']}" for line in journal(folder)[1:]}

        assert results(tmp_path / "run") == results(given.folder)

    def test_it_is_opened_with_its_plugin(self, given: Given) -> None:
        named = [str(given.plugin)]
        before = contents(given.folder)
        with process():
            opened = evonas.open_run(given.folder, named)
            assert len(opened.front) > 0
            opened.verify("best")
            network = evonas.load_network(given.folder, plugin=named)
            assert network(torch.rand(2, 3, 32, 32)).shape == (2, 10)
        (file, *_) = (given.folder / "weights").iterdir()
        with process(), pytest.raises(DataError, match="which a plugin has that plugin= must name, 'widths'"):
            load_weights(file)
        with process():
            assert load_weights(file, named)(torch.rand(2, 3, 32, 32)).shape == (2, 10)
        assert contents(given.folder) == before

    def test_show_verify_and_export_take_it(
        self, given: Given, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        copied = given.copy(tmp_path)
        assert call("show", str(copied.folder), *copied.named) == 0
        assert rows(copied.folder / "front.csv")[0]["arch_id"] in capsys.readouterr().out
        assert call("verify", str(copied.folder), *copied.named, "--retrain", "best") == 0
        assert "DIFFERENT" not in capsys.readouterr().out
        before = rows(copied.folder / "population.csv")
        assert call("export", str(copied.folder), *copied.named) == 0
        assert rows(copied.folder / "population.csv") == before


@pytest.mark.lengthy
def test_status_runs_no_plugin(given: Given, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert call("status", str(given.folder), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["complete"], found["continue"]) == (True, "")
    assert "confidence" in found["front"][0]


@pytest.mark.lengthy
def test_commands_to_paste_name_it(given: Given, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copied = given.copy(tmp_path)
    capsys.readouterr()
    assert call("roco", *WORDS, *FLAGS, *given.named, "--out", str(copied.folder)) == 0
    lines = capsys.readouterr().out.splitlines()
    show, report, audit = lines[lines.index("next:") + 1 :]
    assert all(f" --plugin {given.plugin} " in line for line in (show, report, audit))
    assert call(*shlex.split(show, comments=True)[1:]) == 0
    (run,) = page_data(reported_runs([copied.folder]))["runs"]
    assert run["plugin"] == f" --plugin {given.plugin}"


COMMANDS = [("show",), ("export",), ("verify",), ("roco", *FLAGS, "--out")]


@pytest.mark.lengthy
class TestRefusing:
    @pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
    def test_nothing_that_a_folder_names_runs_unless_it_is_named(
        self, words: tuple[str, ...], given: Given, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = contents(given.folder)
        assert call(*words, str(given.folder)) == 2
        error = capsys.readouterr().err
        assert f"which runs only when it is named; give --plugin {given.plugin}" in error
        assert error.count("\n") == 1
        assert contents(given.folder) == before

    @pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
    def test_a_file_that_was_changed(
        self, words: tuple[str, ...], given: Given, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = contents(given.folder)
        changed = given.with_text(tmp_path, given.plugin.read_text() + "\n# another line\n")
        assert call(*words, str(given.folder), *changed.named) == 2
        error = capsys.readouterr().err
        assert f"expected {given.plugin.name} as this run was begun with" in error
        assert "got another content" in error
        assert error.count("\n") == 1
        assert contents(given.folder) == before

    def test_a_run_that_was_begun_without(
        self, roco_run: Path, given: Given, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = contents(roco_run)
        assert call("roco", *FLAGS, *given.named, "--out", str(roco_run)) == 2
        assert "plugins" in capsys.readouterr().err
        assert contents(roco_run) == before

    def test_an_opened_run_without_it(self, given: Given) -> None:
        with process(), pytest.raises(ConfigurationError, match="which runs only when it is named"):
            evonas.open_run(given.folder)


class TestFiles:
    def test_several_join_in_one_word_with_commas(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        first = new_plugin(tmp_path)
        second = new_plugin(tmp_path, "RECIPES = {'mine': print}\nATTACKS = {'other': print}\n")
        with process():
            words = ["roco", "--plugin", f"{first},{second}", "--space", "widths", "--recipe", "mine", "--lr", "0"]
            assert main(words) == 2
            assert "expected lr > 0, got 0" in capsys.readouterr().err  # the names are known
            assert "widths" in SPACES
        assert "widths" not in SPACES

    def test_loading_twice_does_nothing(self, tmp_path: Path) -> None:
        mark = tmp_path / "mark"
        file = new_plugin(
            tmp_path, f"with open({str(mark)!r}, 'a') as mark:\n    mark.write('x')\nRECIPES = {{'mine': print}}\n"
        )
        with process():
            load_plugins([str(file), str(file)])
            load_plugins([str(file)])
        assert mark.read_text() == "x"

    def test_one_that_changes_while_it_is_loaded(self, tmp_path: Path) -> None:
        file = new_plugin(tmp_path, "RECIPES = {'mine': print}\n")
        with process():
            load_plugins([str(file)])
            file.write_text("RECIPES = {'other': print}\n")
            with pytest.raises(ConfigurationError, match="has changed since this process loaded it"):
                load_plugins([str(file)])

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("RECIPES = {'standard': print}", "expected names of its own in RECIPES of .*, standard is in use"),
            ("RECIPES = {'mine': print}\nOBJECTIVES = {'macs': print}", "in OBJECTIVES of .*, macs is in use"),
            ("SPACES = {'mine': print}", "expected a dataclass as SPACES\\['mine'\\]"),
            ("OBJECTIVES = {'mine': None}", "expected a class or a function as OBJECTIVES\\['mine'\\] of .*, got None"),
            ("RECIPES = {'a,b': print}", "expected names without commas in RECIPES of .*, got 'a,b'"),
            ("raise SystemExit('bye')", "cannot be executed: SystemExit: bye"),
            ("SPACE = {}", "expected a table of SPACES, OBJECTIVES, RECIPES, ATTACKS, MEASUREMENTS in "),
            ("1 / 0", "cannot be executed: ZeroDivisionError: division by zero"),
            ("import no_such_module", "cannot be executed: ModuleNotFoundError"),
            ("def (:", "cannot be executed: SyntaxError"),
        ],
    )
    def test_one_that_cannot_join_leaves_nothing_behind(self, text: str, said: str, tmp_path: Path) -> None:
        file = new_plugin(tmp_path, text)
        with process():
            paths = list(sys.path)
            with pytest.raises(ConfigurationError, match=said):
                load_plugins([str(file)])
            assert "mine" not in {*SPACES, *RECIPES}
            assert file.stem not in sys.modules
            assert sys.path == paths
            file.write_text("RECIPES = {'mine': print}\n")  # mended, it joins in the same process
            load_plugins([str(file)])
            assert RECIPES["mine"] is print  # type: ignore[comparison-overlap]

    def test_one_beside_the_script_that_names_it(self, tmp_path: Path) -> None:
        """Python has the script's folder among its paths already."""
        file = new_plugin(tmp_path, "RECIPES = {'mine': print}\n")
        with process():
            sys.path.insert(0, str(tmp_path))
            load_plugins([str(file)])

    @pytest.mark.parametrize("name", ["json.py", "torch.py", "own_parts.py", "plugin.v2.py"])
    def test_the_name_of_another_module(self, name: str, tmp_path: Path) -> None:
        (tmp_path / name).write_text("RECIPES = {'mine': print}\n")
        with process(), pytest.raises(ConfigurationError, match="expected a plugin with a name of its own"):
            load_plugins([str(tmp_path / name)])

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with process(), pytest.raises(ConfigurationError, match=r"expected a Python file with --plugin, got .*nothing"):
            load_plugins([str(tmp_path / "nothing.py")])


def test_an_attack_without_defaults_is_refused_where_it_is_named(tmp_path: Path) -> None:
    text = "def broken():\n    raise RuntimeError('no epsilon')\n\nATTACKS = {'broken': broken}"
    with process():
        load_plugins([str(new_plugin(tmp_path, text))])
        assert [each.column for each in measurements(["pgd"])] == ["pgd_error"]
        with pytest.raises(ConfigurationError, match="made without arguments, broken: RuntimeError: no epsilon"):
            measurements(["broken"])
