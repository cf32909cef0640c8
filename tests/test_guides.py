"""The guides to parts of one's own: their scripts, plugins and lines of tables run as they stand there."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from helpers import applied

import evonas
from evonas import plugins
from evonas.adversarial_sets import AdversarialSet, save_adversarial_set
from evonas.cli import main
from evonas.errors import UnknownNameError
from evonas.methods import METHODS, roco
from evonas.runs import parse

ROOT = Path(__file__).parents[1]
GUIDES = ROOT / "docs" / "how-to"
TINY = "--train-limit 60 --val-limit 50 --population 2 --generations 0 --epochs 1 --threads 1"


def blocks(guide: str, language: str = "python") -> dict[str, str]:
    """Title -> code."""
    page = (GUIDES / f"{guide}.md").read_text()
    return dict(re.findall(rf'^```{language} title="([\w/.]+)"\n(.*?)^```', page, re.MULTILINE | re.DOTALL))


def shown_commands(guide: str, named: str) -> list[list[str]]:
    """The words of every `evonas` command of a guide that has this word."""
    found = re.findall(r"^evonas (.*)", (GUIDES / f"{guide}.md").read_text(), re.MULTILINE)
    return [words for words in map(shlex.split, found) if named in words]


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, empty, one processor; what its modules do to this process is taken back."""
    tables = [getattr(import_module(room), name) for name, room in plugins.TABLES.items()]
    contents, modules, threads = [dict(table) for table in tables], {*sys.modules}, torch.get_num_threads()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(plugins, "_loaded", {})
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0}, raising=False)
    yield tmp_path
    torch.set_num_threads(threads)
    for table, content in zip(tables, contents, strict=True):
        table.clear()
        table.update(content)
    for name in {*sys.modules} - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def unpack(guide: str, folder: Path) -> None:
    """Write the files of a guide that stand for themselves."""
    for title, code in blocks(guide).items():
        if "/" not in title:
            (folder / title).write_text(code)


def execute(script: Path) -> dict[str, Any]:
    """Run a script in this process, beside its modules; returns its names."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(script.read_text(), script.name, "exec"), names)
    return names


def untimed(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path)
    return table[[name for name in table if not str(name).endswith("seconds")]]


SCRIPTS = [
    ("search-space", "search_chain.py", "chain", ["clean_error", "pgd10_error"]),
    ("objective", "search_worst_class.py", "worst-class", ["clean_error", "pgd10_error"]),
    ("training-recipe", "search_smoothed.py", "smoothed", ["clean_error", "pgd10_error"]),
    ("measurement", "audit_strongly.py", "audited", ["clean_error", "restarted_error"]),
    ("method", "search_at_random.py", "random-digits-quick-seed1", ["clean_error", "pgd10_error"]),
]


@pytest.mark.lengthy
@pytest.mark.parametrize(("guide", "script", "run", "audited"), SCRIPTS, ids=[each[0] for each in SCRIPTS])
def test_script_of_a_guide_gets_all_that_a_run_has_and_goes_on(
    guide: str, script: str, run: str, audited: list[str], workshop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unpack(guide, workshop)
    sys.path.insert(0, str(workshop))
    execute(workshop / script)
    folder = workshop / "runs" / run
    for name in ("config.json", "front.csv", "front.png", "history.csv", "history.png", "population.csv"):
        assert (folder / name).stat().st_size > 0
    tables = {name: untimed(folder / name) for name in ("front.csv", "population.csv", "audit.csv")}
    assert set(audited) <= set(tables["audit.csv"])
    assert (tables["audit.csv"]["status"] == "ok").all()
    assert len([*folder.glob("trained/*.safetensors")]) == len(tables["audit.csv"])

    lines = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "journal.jsonl").write_bytes(b"".join(lines[:-1]))  # as if it had been killed in the last evaluation
    capsys.readouterr()
    execute(workshop / script)
    screen = capsys.readouterr().out
    evaluations = len(lines) - 1
    assert f"finished: {evaluations} evaluations ({evaluations - 1} from the journal, 0 failed)" in screen
    assert "; 0 pending" in screen  # nothing is trained to the end again
    for name, table in tables.items():
        pd.testing.assert_frame_equal(untimed(folder / name), table)
    assert main(["show", str(folder)]) == 0
    assert tables["front.csv"]["arch_id"][0] in capsys.readouterr().out


@pytest.mark.lengthy
@pytest.mark.parametrize(
    ("guide", "plugin"),
    [
        ("search-space", "chain.py"),
        ("objective", "worst_class_error.py"),
        ("training-recipe", "smoothed.py"),
    ],
)
def test_plugin_of_a_guide_is_searched_and_verified(
    guide: str, plugin: str, workshop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unpack(guide, workshop)
    search, verify = shown_commands(guide, plugin)
    assert main([*search, *TINY.split()]) == 0
    assert main(verify) == 0
    assert "equal" in capsys.readouterr().out
    assert main([word for word in verify if word not in ("--plugin", plugin)]) == 2
    assert f"give --plugin {plugin}" in capsys.readouterr().err


def test_measurement_of_the_guide_has_a_name_on_the_command_line(workshop: Path) -> None:
    unpack("measurement", workshop)
    ((method, *words),) = shown_commands("measurement", "strong_attack.py")
    assert method == "roco"
    with pytest.raises(UnknownNameError, match="restarted"):
        parse(roco.PRESETS, [word for word in words if word not in ("--plugin", "strong_attack.py")])
    columns = [each.column for each in parse(roco.PRESETS, words).after.measured().measurements]
    assert columns == ["clean_error", "pgd_error", "restarted_error"]


@pytest.mark.lengthy
def test_method_of_the_guide_is_a_command(
    workshop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("evonas.methods.__path__", [*import_module("evonas.methods").__path__, str(workshop)])
    (workshop / "random_search.py").write_text(blocks("method")["evonas/methods/random_search.py"])
    source = (ROOT / "evonas" / "methods" / "__init__.py").read_text()
    names: dict[str, Any] = {"__name__": "evonas.methods", "__path__": []}
    exec(compile(applied(source, blocks("method", "diff")["evonas/methods/__init__.py"]), "table", "exec"), names)
    for name in names["METHODS"].keys() - METHODS.keys():
        monkeypatch.setitem(METHODS, name, names["METHODS"][name])
    with pytest.raises(SystemExit, match="0"):
        main(["random", "--help"])
    assert "--networks" in capsys.readouterr().out
    search, verify = (each for each in shown_commands("method", "runs/random") if each[0] != "front")
    assert main([*search, "--threads", "1"]) == 0
    assert main(verify) == 0
    assert "all counts are equal" in capsys.readouterr().out
    result = evonas.open_run("runs/random")
    assert len(result.population) == 4
    assert result.load("best")(torch.rand(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.slow
def test_parts_of_the_guides_pass_the_contracts_in_the_package(tmp_path: Path) -> None:
    """A copy of the package gets the files and the lines as the guides say; the contract tests run over them."""
    for folder in ("evonas", "tests/contracts"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for shared in (ROOT / "pyproject.toml", *sorted((ROOT / "tests").glob("*.py"))):
        if not shared.name.startswith("test_"):
            shutil.copy(shared, tmp_path / shared.relative_to(ROOT))
    for guide, name in (("search-space", "chain"), ("objective", "worst_class_error"), ("training-recipe", "smoothed")):
        ((file, diff),) = blocks(guide, "diff").items()
        (tmp_path / file).write_text(applied((tmp_path / file).read_text(), diff))
        part = re.sub(r"\n\n[A-Z]+ = \{.*\}\n$", "", blocks(guide)[f"{name}.py"])
        assert part != blocks(guide)[f"{name}.py"]
        (tmp_path / file).with_name(f"{name}.py").write_text(part)
    ((file, diff),) = blocks("measurement", "diff").items()
    (tmp_path / file).write_text(applied((tmp_path / file).read_text(), diff))
    contracts = [f"tests/contracts/test_{kind}_contract.py" for kind in ("space", "objective", "recipe", "measurement")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *contracts]
    chosen = "chain or worst_class_error or smoothed or restarted"
    done = subprocess.run([*command, "-k", chosen], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) >= 40
    unused = subprocess.run([sys.executable, "-m", "ruff", "check", "-q", "evonas"], cwd=tmp_path, capture_output=True)
    assert unused.returncode == 0, unused.stdout


READ = ("export.md", "latency.md", "operations.md", "tables.md")
"""Pages whose blocks read a run or a table that the reader has."""

PASTED = sorted(
    page
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"))
    if "```python" in page.read_text()
    and page.name not in ("quickstart.md", "tutorial.md", *READ)  # the commands of the first two take minutes
)


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "how-to").glob("*.md")), ids=lambda page: page.stem)
def test_changes_of_the_guides_still_have_their_places(page: Path) -> None:
    changed: dict[str, str] = {}
    for title, code in re.findall(r'^```diff title="(.*?)"\n(.*?)^```', page.read_text(), re.MULTILINE | re.DOTALL):
        source = changed.get(title) or (ROOT / title).read_text()
        changed[title] = applied(source, code)


@pytest.mark.slow
@pytest.mark.parametrize("page", PASTED, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_blocks_run_as_a_reader_pastes_them(page: Path, tmp_path: Path) -> None:
    """In a clean folder, one after the other, each in a process; what is for the package goes into a copy of it."""
    for folder in ("evonas", "tests/contracts"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    here = tmp_path / "here"
    here.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "EVONAS_DATA": str(here / "data"), "MPLBACKEND": "Agg"}
    found = re.findall(r'^```(python|diff)(?: title="(.*?)")?\n(.*?)^```', page.read_text(), re.MULTILINE | re.DOTALL)
    assert sum(language == "python" for language, _, _ in found) == page.read_text().count("```python")
    for number, (language, title, code) in enumerate(found):
        if language == "diff":
            (tmp_path / title).write_text(applied((tmp_path / title).read_text(), code))
            continue
        script = here / (title or f"block{number}.py")
        command = [sys.executable, script.name]
        if "/" in title:
            script = tmp_path / title
            command = [sys.executable, "-c", f"import {title.removesuffix('.py').replace('/', '.')}"]
        script.write_text(code)
        done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, f"{page.name}, {title or code}\n{done.stdout}{done.stderr}"


@pytest.mark.slow
def test_scripts_of_the_quickstart_run(
    workshop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], digits_set: AdversarialSet
) -> None:
    page = (ROOT / "docs" / "quickstart.md").read_text()
    (attacked,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    titled = blocks("../quickstart")
    save_adversarial_set(workshop / "set.safetensors", digits_set)
    tiny = [*TINY.split(), "--channels", "2", "--data", "digits", "--objectives", "clean_error,macs"]
    retraining = "--retrain --top 1 --retrain-epochs 1 --retrain-channels 2 --suite fgsm --test-limit 50"
    given = ["--adversarial-set", "set.safetensors", "--out", "runs/roco-digits-quick-seed0"]
    assert main(["roco", *tiny, *retraining.split(), *given]) == 0
    for code in (titled["use_a_network.py"], attacked, titled["search.py"]):
        exec(compile(code, "quickstart", "exec"), {"__name__": "__main__"})
    assert "white-box error" in capsys.readouterr().out
    assert (workshop / "runs" / "from-a-script" / "front.csv").exists()
    monkeypatch.setitem(roco.PRESETS, "quick", parse(roco.PRESETS, tiny))
    exec(compile(titled["paper.py"], "paper.py", "exec"), {"__name__": "__main__"})
    assert (workshop / "runs" / "as-the-paper" / "front.csv").exists()
