"""Run folders that an earlier version wrote: half finished they go on, bit for bit, and finished they are read.

make.py says how the folders below fixtures/ were made. Where torch rounds differently from the one that made them, what
does not depend on rounding is compared, and the test is skipped with that reason.
"""

import csv
import hashlib
import json
from collections.abc import Collection, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_runner import FIXTURES, Answer, Runner, restore
from safetensors.torch import load_file

from evonas.training import load_checkpoint, stored_identity

CASES: dict[str, Any] = json.loads((FIXTURES / "cases.json").read_text())
KINDS: dict[str, Any] = CASES["kinds"]
SEARCHED = [kind for kind, about in KINDS.items() if about["searched"]]
SOONER = {
    ("roco", "search"),
    ("tam", "search"),
    ("darts", "journal"),
    ("e2rnas-1", "journal"),
    ("dsrna-bound", "search"),
}
"""What `make check` continues, too."""
IDENTITIES: dict[str, Any] = json.loads((FIXTURES.parent / "identities.json").read_text())

TIMES = {"seconds", "train_seconds", "search_seconds", "checksum"}
"""Fields that differ from run to run; a line's checksum is over them, too."""
LATER = ("share_", "untrained", "rank_correlation_")
"""Beginnings of columns that version 0.1.0 did not write."""
OF_THE_MACHINE = {"versions", "created_by", "sha256"}
"""The same in the card of an adversarial set."""
OF_THE_RUN = ("identity", "columns", "reference_point", "measured", "evaluations")
"""Parts of config.json that no continuing changes."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    runner = Runner(tmp_path_factory.mktemp("golden"))
    yield runner
    runner.close()


@pytest.fixture(scope="module")
def otherwise(run: Runner) -> str:
    """Why exact numbers cannot be expected here; empty where they can."""
    made, here = CASES["made_with"], metadata.version("torch").partition("+")[0]
    if here != made["torch"]:
        return f"exact numbers are not compared: made with torch {made['torch']}, this is {here}"
    if run.rounding() != made["rounding"]:
        return "exact numbers are not compared: torch rounds differently on this machine"
    return ""


@pytest.mark.lengthy
@pytest.mark.parametrize(
    ("kind", "state"),
    [
        pytest.param(kind, state, marks=() if (kind, state) in SOONER else pytest.mark.slow)
        for kind in KINDS
        for state in KINDS[kind]["states"]
    ],
)
def test_what_was_killed_goes_on(kind: str, state: str, run: Runner, otherwise: str, tmp_path: Path) -> None:
    stage = KINDS[kind]["states"][state]["stage"]
    put(kind, state, tmp_path)
    begun = {path: path.read_bytes() for path in (tmp_path / kind).rglob("*.jsonl")}
    succeed(run, KINDS[kind]["stages"][stage], tmp_path)
    put(kind, "finished", tmp_path / "expected")
    for path, lines in begun.items():
        assert not path.exists() or path.read_bytes().startswith(lines)  # a set's ledger goes once the set is there
    if otherwise:
        compare_roughly(tmp_path / kind, tmp_path / "expected" / kind)
        pytest.skip(otherwise)
    later = [folder for name, folders in KINDS[kind]["adds"].items() if name != stage for folder in folders]
    compare(tmp_path / kind, tmp_path / "expected" / kind, later)


@pytest.mark.lengthy
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow if kind == "dsrna-jacobian" else ()) for kind in KINDS]
)
def test_what_was_finished_is_found(kind: str, run: Runner, tmp_path: Path) -> None:
    """The same command computes nothing, whatever rounds how; a searched folder is shown, exported and verified."""
    put(kind, "finished", tmp_path)
    put(kind, "finished", tmp_path / "expected")
    recorded = [path for path in (tmp_path / kind).rglob("*") if path.suffix in (".jsonl", ".pt", ".safetensors")]
    kept = {path: path.read_bytes() for path in recorded}
    *_, last = KINDS[kind]["stages"].values()
    succeed(run, last, tmp_path)
    for path, content_before in kept.items():
        after = path.read_bytes()
        if path.name == "rows.jsonl":  # weights are kept, and measured again: version 0.1.0 recorded whole suites
            assert after.startswith(content_before)
            assert after.count(b'"kind":"trained"') == content_before.count(b'"kind":"trained"')
        else:
            assert after == content_before
    if kind == "set":
        assert "Successful / tried" in succeed(run, ["set", "@FIXTURES@/set/tiny.safetensors"], tmp_path).out
    if kind in SEARCHED:
        shown = succeed(run, ["show", f"@FIXTURES@/{kind}"], tmp_path).out
        front = rows(FIXTURES / kind / "finished" / "front.csv")
        assert front
        assert all(row["arch_id"] in shown for row in front)
        succeed(run, ["export", f"@FIXTURES@/{kind}"], tmp_path)
        assert "all counts are equal" in succeed(run, ["verify", f"@FIXTURES@/{kind}"], tmp_path).out
    compare(tmp_path / kind, tmp_path / "expected" / kind)


@pytest.mark.lengthy
def test_one_front_over_all(run: Runner, tmp_path: Path) -> None:
    for kind in SEARCHED:
        restore(kind, "finished", tmp_path)
    runs = [f"@FIXTURES@/{kind}" for kind in SEARCHED]
    succeed(run, ["front", *runs, "--objectives", "clean_error,params", "--out", "@FIXTURES@/joint"], tmp_path)
    assert {row["run"] for row in rows(tmp_path / "joint" / "population.csv")} == set(SEARCHED)
    compare(tmp_path / "joint", FIXTURES / "joint" / "finished")


@pytest.mark.lengthy
@pytest.mark.parametrize("name", IDENTITIES)
def test_identities_are_the_same(name: str, run: Runner, tmp_path: Path) -> None:
    """A folder with another seed is refused before anything is computed, and the seed is all that differs."""
    case, folder = IDENTITIES[name], tmp_path / name.split("/")[0]
    restore("set", "finished", tmp_path)
    restore("images", "finished", tmp_path)
    identity = {**case["identity"], "seed": 12345}
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"settings": case["settings"], "identity": identity}))
    if name.startswith("imagenet"):
        torch.save({"identity": json.dumps(identity)}, folder / "training.pt")
    else:
        (folder / "journal.jsonl").write_text(sealed({"format": "evonas-journal-1", "identity": identity}))
    answer = run(words(case["argv"], tmp_path))
    assert answer.code == 2
    assert "seed is 12345 there, 0 here" in answer.err
    assert answer.err.count(" there, ") == 1


@pytest.mark.lengthy
@pytest.mark.parametrize("state", ["search", "finished"])
def test_weights_that_were_applied_to_raw_losses_go_on_where_they_are_named(
    state: str, run: Runner, tmp_path: Path
) -> None:
    """Their default has changed: the line has the difference and the flag, and nothing is touched."""
    put("e2rnas-2", state, tmp_path)
    before = {path: path.read_bytes() for path in (tmp_path / "e2rnas-2").rglob("*") if path.name != "run.lock"}
    command = KINDS["e2rnas-2"]["stages"]["search"]
    assert former_default(command) == ["--weights-on", "raw"]
    answer = run([word.replace("@FIXTURES@", str(tmp_path)) for word in command])
    assert answer.code == 2
    (line,) = answer.err.strip().splitlines()
    assert "combine.applied_to is raw there, normalised here; give the same settings (--weights-on raw), or" in line
    assert {path: path.read_bytes() for path in (tmp_path / "e2rnas-2").rglob("*") if path.name != "run.lock"} == before


@pytest.mark.lengthy
def test_digests_follow_from_identities() -> None:
    """Records of finished trainings and scores are keyed by these."""
    trainings = [each for case in IDENTITIES.values() for each in case.get("trainings", {}).values()]
    assert len(trainings) == 28
    for training in trainings:
        assert digest(training["identity"]) == training["digest"]
        for scores in training["scores"].values():
            assert digest({"training": training["digest"], **scores["identity"]}) == scores["digest"]


def put(kind: str, state: str, root: Path) -> None:
    """The folder of a run below ROOT, and those that its commands read."""
    shared = KINDS[kind]["states"].get(state, {}).get("shared", [])
    restore(kind, state, root, shared)
    for other in KINDS[kind]["needs"]:
        restore(other, "finished", root)


def words(command: list[str], root: Path) -> list[str]:
    """A command line below ROOT as it is given now.

    Without what version 0.1.0 took though nothing read it, and is refused; with what names a former default.
    """
    given = [*command, *former_default(command)]
    trains = "--retrain" in given
    finalises = "--finalise" in given and given[given.index("--finalise") + 1] != ""
    for flag, used in (("--retrain-precision", trains), ("--finalise-precision", finalises)):
        if flag in given and not used:
            at = given.index(flag)
            del given[at : at + 2]
    if given[0] == "build-set":  # one thread computes every set
        at = given.index("--threads")
        del given[at : at + 2]
    return [word.replace("@FIXTURES@", str(root)) for word in given]


def former_default(command: list[str]) -> list[str]:
    """Flags that continue a run that was begun with a default which has changed since."""
    if command[0] == "e2rnas" and command[command.index("--version") + 1] == "2":
        return ["--weights-on", "raw"]
    if command[0] == "dsrna" and "paper" in command:
        return ["--order", "1"]
    if command[0] == "imagenet" and "paper" in command:
        return ["--ood-data", ""]  # there are too few images for AUPR
    return []


def succeed(run: Runner, command: list[str], root: Path) -> Answer:
    answer = run(words(command, root))
    assert answer.code == 0, answer.out + answer.err
    return answer


def compare(found: Path, expected: Path, skipped: Collection[str] = ()) -> None:
    """The same files with the same contents, but for those in the folders `skipped`."""
    names = [{path.relative_to(folder) for path in folder.rglob("*") if path.is_file()} for folder in (found, expected)]
    own = {
        "rows.jsonl",
        "run.lock",
        "untrained.csv",
    }  # audits record each measurement now; the tables have what they found
    new = {*skipped, "weights"}  # weights of networks as they were scored were not kept
    names = [{name for name in some if name.parts[0] not in new and name.name not in own} for some in names]
    assert names[0] == names[1]
    for name in sorted(names[0]):
        assert content(found / name) == content(expected / name), name


def compare_roughly(found: Path, expected: Path) -> None:
    """Nothing failed; the first population of an evolution is the same, and networks that both have cost the same."""
    for path in found.rglob("*.jsonl"):
        assert all(line.get("status", "ok") == "ok" for line in lines(path))
    if (found / "journal.jsonl").exists():
        mine, theirs = (lines(folder / "journal.jsonl")[1:] for folder in (found, expected))
        if not (found / "search.lock").exists():  # cells found by gradient descent follow from how it rounds
            firsts = [
                [(each["key"], each["genome"]) for each in some if each["generation"] == 0] for some in (mine, theirs)
            ]
            assert firsts[0] == firsts[1]
            assert len(mine) == len(theirs)
        costs = {each["key"]: [each["objectives"][name] for name in ("params", "macs")] for each in theirs}
        for each in mine:
            assert costs.get(each["key"]) in (None, [each["objectives"][name] for name in ("params", "macs")])


def content(path: Path) -> Any:
    """What of a file is the same for every run of the same command; None: that it is there."""
    match path.suffix:
        case ".jsonl":
            return lines(path)
        case ".csv":
            return rows(path)
        case ".json" if path.name == "config.json":
            config = json.loads(path.read_text())
            return {name: config.get(name) for name in OF_THE_RUN}
        case ".json":
            return without(json.loads(path.read_text()), TIMES | OF_THE_MACHINE)
        case ".pt":
            checkpoint = load_checkpoint(path, stored_identity(path, "a checkpoint"), "a checkpoint")  # of any version
            assert checkpoint is not None
            return json.loads(checkpoint["identity"]), dict(tensors(checkpoint)), without(checkpoint["rows"], TIMES)
        case ".safetensors":
            return dict(tensors(load_file(path)))
    return None


def lines(path: Path) -> list[dict[str, Any]]:
    return [without(json.loads(line), TIMES) for line in path.read_text().splitlines()]


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return [without(row, TIMES | {name for name in row if name.startswith(LATER)}) for row in csv.DictReader(file)]


def without(value: Any, names: set[str]) -> Any:
    """Lists and dictionaries without the fields of these names, and those of `LATER`."""
    if isinstance(value, dict):
        kept = {name: each for name, each in value.items() if name not in names and not name.startswith(LATER)}
        return {name: without(each, names) for name, each in kept.items()}
    return [without(each, names) for each in value] if isinstance(value, list) else value


def tensors(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every tensor within, by its place: type, shape and bits."""
    if isinstance(value, torch.Tensor):
        yield name, (value.dtype, value.shape, value.contiguous().numpy().tobytes())
    elif isinstance(value, dict | list | tuple):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from tensors(each, f"{name}/{key}")


def digest(identity: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def sealed(record: dict[str, Any]) -> str:
    """A line of a journal: its last field is a checksum over all others."""
    body = json.dumps(record, separators=(",", ":"))
    return f'{body[:-1]},"checksum":"{hashlib.sha256(body.encode()).hexdigest()[:16]}"}}\n'
