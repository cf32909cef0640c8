"""Start-up: a command loads what it runs, and no more."""

import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest

import evonas
from evonas._version import __version__
from evonas.commands import COMMANDS
from evonas.lazy import Table
from evonas.methods import METHODS

HEAVY = {
    *("torch", "torchvision", "pandas", "matplotlib", "scipy", "sklearn", "pymoo", "moocore", "ray", "safetensors"),
    *("foolbox", "IPython", "numba", "networkx", "sympy"),
}
PACKAGE = Path(evonas.__file__).parent

OF_HELP = {
    *("", ".cli", ".doctor", ".errors", ".files", ".lazy", ".methods", ".parts", ".ranges", "._version"),
    *(".runs", ".runs.command_line", ".runs.execution", ".runs.help", ".runs.interrupt", ".runs.needs"),
    *(".plugins", ".runs.options", ".runs.streams", ".runs.words"),
    *(".data", ".data.loader", ".data.source", ".data.arrays", ".data.dataset", ".data.digits", ".data.npz"),
    *(".data.torchvision_sets", ".seeding", ".types", ".commands", ".commands.opened"),
    *(".ship", ".ship.settings"),
    *(
        f".commands.{name}"
        for name in ("audit", "choose", "doctor", "export", "front", "latency", "report", "set_card")
    ),
    *(f".commands.{name}" for name in ("ship", "show", "status", "study", "verify")),
    *(".methods.stored_audit", ".studies", ".studies.options"),
}
"""Modules of evonas that `evonas --help` imports, after `evonas`."""


def loaded(code: str) -> tuple[set[str], str]:
    """Names of the modules that are there after some code in a new interpreter, and what it printed besides."""
    child = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint('\\nLOADED', *sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    printed, _, modules = child.stdout.rpartition("\nLOADED ")
    return set(modules.split()), printed


def after_command(*words: str) -> tuple[set[str], str]:
    """`loaded` after a command of evonas, however it ends."""
    return loaded(f"import contextlib, evonas.cli\nwith contextlib.suppress(SystemExit): evonas.cli.main({[*words]!r})")


def packages(modules: set[str]) -> set[str]:
    return {name.split(".")[0] for name in modules}


def test_help_imports_these_modules_and_no_others() -> None:
    modules, printed = after_command("--help")
    assert packages(modules) & HEAVY == set()
    assert {name.removeprefix("evonas") for name in modules if name.split(".")[0] == "evonas"} == OF_HELP
    assert all(name in printed for name in (*COMMANDS, *METHODS))


@pytest.mark.lengthy
@pytest.mark.parametrize("name", [*METHODS, *COMMANDS])
def test_the_help_of_a_command_loads_nothing_heavy(name: str) -> None:
    modules, printed = after_command(name, "--help")
    assert packages(modules) & HEAVY == set()
    assert printed.startswith(f"usage: evonas {name}")


@pytest.mark.lengthy
@pytest.mark.parametrize(
    "words",
    [
        ("rocco",),
        ("roco", "--popluation", "3"),
        ("roco", "--epochs", "many"),
        ("roco", "--epochs", "0"),
        ("roco", "--objectives", "clean_error,speed"),
        ("roco", "--algorithm", "moead"),
        ("roco", "--space", "cells"),
        ("roco", "--recipe", "magic"),
        ("roco", "--operators", "swap"),
        ("roco", "--attack-steps", "3", "--objectives", "macs,params"),
        ("roco", "--precision", "fp8"),
        ("tam", "--supernet-steps", "3"),
        ("darts", "--method", "magic"),
        ("darts", "--order", "1", "--hessian", "exact"),
        ("dsrna", "--baselines", "darts,darts"),
        ("e2rnas", "--L", "1", "--sweep-L", "1,2"),
        ("imagenet", "--layers", "1"),
        ("build-set", "--targets", "AlexNet"),
        ("show", "nowhere"),
        ("front", "nowhere"),
        ("verify",),
    ],
    ids=" ".join,
)
def test_an_error_of_usage_loads_nothing_heavy(words: tuple[str, ...], tmp_path: Path) -> None:
    code = f"import os, evonas.cli\nos.chdir({str(tmp_path)!r})\nassert evonas.cli.main({[*words]!r}) == 2"
    assert packages(loaded(code)[0]) & HEAVY == set()


def settings_modules() -> list[str]:
    """Every module that holds settings, and those of the methods' options."""
    found = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in PACKAGE.rglob("settings.py")]
    rooms = [f"evonas.{path.name}" for path in sorted(PACKAGE.iterdir()) if (path / "__init__.py").exists()]
    options = ("evonas.runs.options", "evonas.runs.objectives", "evonas.runs.execution", "evonas.runs.needs")
    return sorted([*found, *rooms, *options, *METHODS.values()])


@pytest.mark.lengthy
def test_settings_and_rooms_import_no_torch() -> None:
    modules = settings_modules()
    assert {"evonas.training.settings", "evonas.adversarial_sets.settings", "evonas.search.settings"} <= {*modules}
    checks = "\n".join(f"import {name}; assert 'torch' not in sys.modules, {name!r}" for name in modules)
    assert packages(loaded(f"import sys\n{checks}")[0]) & HEAVY == set()


@pytest.mark.lengthy
def test_the_first_line_of_a_search_is_said_before_torch_is_loaded() -> None:
    code = (
        "import sys, evonas.runs.command_line as command_line, evonas.methods.roco as roco\n"
        "def run(options): print('torch' in sys.modules)\n"
        "assert command_line.command(run, roco.PRESETS, [], 'evonas roco') == 0"
    )
    assert loaded(code)[1].splitlines() == ["evonas roco: loading torch", "False"]


@pytest.mark.lengthy
def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    modules, printed = after_command("--version")
    assert printed.strip() == f"evonas {__version__}"
    assert packages(modules) & HEAVY == set()


@pytest.mark.lengthy
@pytest.mark.parametrize(
    ("words", "number", "expected"),
    [
        (["evonas", "bui"], 1, ["build-set"]),
        (["evonas", "--v"], 1, ["--version"]),
        (["evonas", "roco", "--retrain-ch"], 2, ["--retrain-channels"]),
        (["evonas", "roco", "--no-stop"], 2, ["--no-stop-when-fooled"]),
        (["evonas", "verify", "runs/x", "--ret"], 3, ["--retrain"]),
        (["evonas", "show", "--ru"], 2, []),
    ],
)
def test_bash_completes_commands_and_flags(words: list[str], number: int, expected: list[str]) -> None:
    modules, script = after_command("--print-completion", "bash")
    assert packages(modules) & HEAVY == set()
    line = f"{script}\nCOMP_WORDS=({' '.join(words)}); COMP_CWORD={number}; _evonas; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert (done.stdout.split(), done.stderr) == (expected, "")


@pytest.mark.lengthy
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("show RUN kn", ["knee"]),
        ("show RUN 0a", ["0a1b2c3d4e5f6071", "0af0000000000000"]),
        ("verify RUN 0a", []),
        ("show elsewhere 0a", []),
    ],
)
def test_bash_completes_the_networks_of_a_front(words: str, expected: list[str], tmp_path: Path) -> None:
    (tmp_path / "a run").mkdir()
    lines = ["arch_id,generation", "0a1b2c3d4e5f6071,0", "0af0000000000000,1", "ffffffffffffffff,1"]
    (tmp_path / "a run" / "front.csv").write_text("\n".join(lines) + "\n")
    script = after_command("--print-completion", "bash")[1]
    given = ["evonas", *(f'"{tmp_path}/a run"' if word == "RUN" else word for word in words.split())]
    line = f"{script}\nCOMP_WORDS=({' '.join(given)}); COMP_CWORD=3; _evonas; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert (done.stdout.split(), done.stderr) == (expected, "")


class TestTable:
    def test_a_value_is_imported_when_it_is_asked_for(self) -> None:
        table: Table[object] = Table({"a": "evonas.no_such_module:A", "date": "datetime:date", "now": "time:time()"})
        assert (list(table), len(table), "a" in table) == (["a", "date", "now"], 3, True)
        assert table["date"] is __import__("datetime").date
        assert isinstance(table["now"], float)
        assert table["now"] == table["now"]  # called once
        with pytest.raises(ModuleNotFoundError):
            _ = table["a"]

    def test_it_is_added_to_as_a_dictionary(self) -> None:
        table: Table[object] = Table({})
        table.update({"mine": TestTable})
        assert dict(table) == {"mine": TestTable}
        del table["mine"]
        assert not table


def test_a_room_keeps_a_name_that_a_file_of_it_has_too() -> None:
    """`evonas.training.standard` is the recipe, whichever was imported first."""
    code = "import evonas.training.standard\nfrom evonas.training import standard\nprint(callable(standard))"
    assert loaded(code)[1].split() == ["True"]


def test_what_a_room_or_a_table_does_like_a_module_or_a_dict() -> None:
    """A function of a script travels to workers with the rooms that it names; a copied table is one of its own."""
    from evonas import attacks

    assert cloudpickle.loads(cloudpickle.dumps(attacks)) is attacks
    one = attacks.ATTACKS.copy()
    one["mine"] = attacks.ATTACKS["fgsm"]
    assert "mine" not in attacks.ATTACKS
    assert [*(attacks.ATTACKS | {"mine": attacks.FGSM})] == [*attacks.ATTACKS, "mine"]
