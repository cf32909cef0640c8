"""Every study: its grid, its page with a line for each table and figure of its paper, and its command."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toy_studies import studied

from evonas.cli import main
from evonas.data.out_of_distribution import resolve_ood_data
from evonas.methods import method_module
from evonas.runs.needs import options_of, refuse_unused
from evonas.studies import STUDIES, joint
from evonas.studies.page import write_study
from evonas.studies.study import PRESETS, Studied
from evonas.studies.tam import HANDMADE

ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X")
PAPERS = {
    "roco": [*(f"Table {n}" for n in ROMAN[:5]), *(f"Fig. {n}" for n in range(1, 7))],
    "tam": [*(f"Table {n}" for n in ROMAN), *(f"Fig. {n}" for n in range(1, 10))],
    "e2rnas-v1": [*(f"Table {n}" for n in range(1, 4)), *(f"Fig. {n}" for n in range(1, 5))],
    "e2rnas-v2": [*(f"Table {n}" for n in ROMAN[:6]), "Fig. 1", "Fig. 2"],
    "dsrna": [f"Table {n}" for n in range(1, 7)],
    "darts": [*(f"Table {n}" for n in range(1, 4)), "Fig. 4"],
}
"""Study -> tables and figures of its paper."""
BEYOND = {
    "capacity": ["Table differences", "Table correlations", "Fig. differences", "Fig. networks"],
    "guidelines": ["Table orders", "Table layers", "Fig. orders"],
    "proxies": ["Table correlations", "Fig. correlations", "Fig. networks"],
    "supernet": ["Table predictions", "Table coverage", "Fig. predictions", "Fig. coverage"],
}
"""The same of studies beyond the papers."""


def test_every_study_is_here() -> None:
    assert set(PAPERS) | {"joint", *BEYOND} == set(STUDIES)


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("preset", PRESETS)
def test_a_grid_has_folders_of_their_own_and_options_that_are_used(name: str, preset: str) -> None:
    cells = list(STUDIES[name].cells(preset, 2))
    folders = [cell.folder for cell in cells]
    assert len(set(folders)) == len(folders)
    assert {cell.seed for cell in cells} == {0, 1}
    usual = "paper" if preset == "paper" else "quick"
    for place, cell in enumerate(cells):
        assert set(cell.needs) <= set(folders[:place])
        module = method_module(cell.method)
        assert isinstance(cell.options, module.OPTIONS)
        refuse_unused(cell.options, module.PRESETS[usual])


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("preset", PRESETS)
def test_linked_cells_are_files_that_the_linked_search_writes(name: str, preset: str) -> None:
    cells = {cell.folder: cell for cell in STUDIES[name].cells(preset, 1)}
    links = [path.split("/") for cell in cells.values() for _, path in cell.links if "genotype" in path]
    assert bool(links) == ((name, preset) in {("dsrna", "paper"), ("e2rnas-v2", "paper")})
    for folder, file in links:
        labels = cells[folder].options.methods(32)
        assert file in {f"genotype-{label}.json" if label else "genotype.json" for label in labels}


@pytest.mark.parametrize("preset", PRESETS)
def test_runs_of_the_joint_front_compute_alike(preset: str) -> None:
    """Whatever the processor can: errors of two precisions are refused on one front."""
    for cell in STUDIES["joint"].cells(preset, 1):
        given = {option.name: option.value for option in options_of(cell.options)}
        assert given["supernet_precision" if cell.method == "tam" else "precision"] == "fp32"


@pytest.mark.parametrize("name", STUDIES)
def test_images_are_named_and_the_papers_are_never_digits(name: str, tmp_path: Path) -> None:
    for preset in PRESETS:
        found = Studied(STUDIES[name], preset, 1, tmp_path)
        data = {found.data(cell.role) for cell in found.cells}
        assert data == {"digits"} if preset == "quick" else not data & {"digits", "auto"}


@pytest.mark.parametrize("name", STUDIES)
def test_the_papers_out_of_distribution_images_are_named(name: str) -> None:
    """`auto` would take whatever is there, or noise."""
    for cell in STUDIES[name].cells("paper", 1):
        given = {option.name: option.value for option in options_of(cell.options)}
        unused = cell.options.unused() if hasattr(cell.options, "unused") else {}
        if given.get("ood_data") and "ood_data" not in unused:
            assert given["ood_data"] != "auto", cell.folder
            resolve_ood_data(given["ood_data"], given.get("data", "imagenet"))  # it raises where classes are the same


def test_methods_of_the_joint_front_that_need_no_out_of_distribution_images_name_none() -> None:
    named = {cell.group: cell.options.data.ood_data for cell in STUDIES["joint"].cells("paper", 1)}
    assert {group for group, data in named.items() if data == "svhn"} == {"E2RNAS v2"}
    assert {*named.values()} == {"auto", "svhn"}


@pytest.mark.lengthy
@pytest.mark.parametrize("name", STUDIES)
def test_without_a_run_every_item_has_its_line_and_every_measured_cell_is_a_dash(name: str, tmp_path: Path) -> None:
    found = Studied(STUDIES[name], "quick", 2, tmp_path)
    page = write_study(found).read_text()
    for item in (PAPERS | BEYOND).get(name, []):
        assert page.count(f"\n| {item} |") == 1, item
    for line in page.splitlines():
        if re.search(r"\| (measured|difference|change in %) \|", line):
            cells = re.split(r" \| (?:measured|difference|change in %) \| ", line)[1].removesuffix(" |").split(" | ")
            assert set(cells) == {"-"}, line
    assert not list(tmp_path.glob("*.png"))
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write_study(found)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first


@pytest.mark.parametrize("preset", joint.BUDGET)
def test_every_method_of_the_joint_front_passes_over_the_images_equally_often(preset: str) -> None:
    for cell in STUDIES["joint"].cells(preset, 1):
        given = {option.name: option.value for option in options_of(cell.options)}
        if cell.method == "roco":
            passes = given["population"] * (given["generations"] + 1) * given["epochs"]
        elif cell.method == "tam":
            passes = given["block_epochs"] + given["joint_epochs"]
        else:
            passes = given["search_epochs"] + given["epochs"]
        assert passes == joint.BUDGET[preset], cell.group
        assert given["data"] == joint.SIZES[preset]["data"]


def test_status_reads_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "roco", "--status", "--seeds", "1", "--out", str(tmp_path / "none")]) == 0
    assert "Study roco, quick: 4 waiting" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("roko",), "unknown study 'roko'; did you mean roco?"),
        (("roco", "--seeds", "0"), "expected seeds >= 1, got 0"),
    ],
)
def test_what_is_refused(words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", *words, "--status"]) == 2
    assert message in capsys.readouterr().err


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from toy_studies import studied
from evonas.studies.page import write_study
from evonas.studies.slots import run_on_slots
found = studied({name!r}, Path({root!r}))
if __name__ == "__main__":
    run_on_slots(found.root, found.cells, {{}}, {slots})
    write_study(studied({name!r}, found.root))
"""


def begin(name: str, root: Path, slots: int = 1) -> "subprocess.Popen[bytes]":
    """A process that makes the toy study. A script on disk, which a second slot can import."""
    root.mkdir(exist_ok=True)
    code = CHILD.format(tests=str(Path(__file__).parent), name=name, root=str(root), slots=slots)
    script = root / "study.py"
    script.write_text(code)
    with open(root / "errors.txt", "w") as errors:
        return subprocess.Popen([sys.executable, str(script)], stdout=subprocess.DEVNULL, stderr=errors)


def make(name: str, root: Path, slots: int = 1) -> None:
    """Make the toy study, or continue with that."""
    assert begin(name, root, slots).wait() == 0, (root / "errors.txt").read_text()


def left(root: Path) -> dict[str, bytes]:
    """Pages and tables of a study, without columns of seconds."""
    found = {path.name: path.read_bytes() for path in sorted(root.iterdir()) if path.suffix in (".md", ".csv")}
    lines = [line.split(",") for line in found.pop("rows.csv").decode().splitlines()]
    kept = [place for place, name in enumerate(lines[0]) if "seconds" not in name]
    return {**found, "rows.csv": repr([[line[place] for place in kept] for line in lines]).encode()}


@pytest.mark.slow
def test_killed_and_continued_gives_the_same_tables(tmp_path: Path) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    make("roco", whole)
    child = begin("roco", parted)
    journal = parted / "roco-nas-cifar10-seed0" / "journal.jsonl"
    while not (journal.exists() and journal.read_bytes().count(b"\n") > 1):
        assert child.poll() is None, (parted / "errors.txt").read_text()
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    states = studied("roco", parted).states
    assert states["baseline-nas-cifar10-seed0"].status == "finished"
    assert states["roco-nas-cifar10-seed0"].status == "begun"
    make("roco", parted)
    assert {state.status for state in studied("roco", parted).states.values()} == {"finished"}
    assert left(parted) == left(whole)


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor")
def test_two_slots_give_the_tables_of_one_and_end_with_the_first(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    make("roco", one)
    child = begin("roco", two, slots=2)
    log = two / "slot-2.log"
    while not (log.exists() and "study: " in log.read_text()):
        assert child.poll() is None, (two / "errors.txt").read_text()
        time.sleep(0.02)
    started = [int(word) for word in Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()]
    assert started
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    deadline = time.time() + 60
    while any(map(alive, started)):
        assert time.time() < deadline, "a slot outlived the first process"
        time.sleep(0.1)
    make("roco", two, slots=2)
    assert left(two) == left(one)


def killed(name: str, root: Path) -> None:
    """The toy study, killed when its second run, or its only one, has begun."""
    second = studied(name, root).cells[:2][-1].folder
    child = begin(name, root)
    while not (root / second).exists():
        assert child.poll() is None, (root / "errors.txt").read_text()
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert studied(name, root).states[second].status == "begun"


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in STUDIES if name != "roco"])
def test_a_toy_study_is_killed_continued_and_fills_its_tables(name: str, tmp_path: Path) -> None:
    killed(name, tmp_path)
    make(name, tmp_path)
    found = studied(name, tmp_path)
    assert {folder: state for folder, state in found.states.items() if state.status != "finished"} == {}
    text = (tmp_path / "study.md").read_text()
    if name == "capacity":  # both toy searches find the smallest network, which is left out as evidence for neither
        assert "1 of 1 networks are on both fronts of their seed" in text
        return
    assert re.search(r"\| measured \| [^-|]|\([1-9]\) \|", text)
    for item in found.study.items:
        drawn = item.draw is None or (tmp_path / f"{item.stem}.png").exists()
        assert drawn or (name in BEYOND and item.name == "Fig. coverage"), item.name
        assert item.tables is None or [*tmp_path.glob(f"{item.stem}*.csv")], item.name
        for table in item.tables(found) if item.tables and name not in BEYOND else ():
            if "digits" in table.title and item.name != "Text IV":  # the hypervolume of toys is 0
                empty = [line[0] for line in table.lines if "measured" in line[1:2] and {*line[2:]} == {"-"}]
                assert [label for label in empty if label not in HANDMADE] == [], item.name  # toys train none of those
