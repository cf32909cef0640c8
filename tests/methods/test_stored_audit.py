"""`evonas audit`: runs on disk measured, again, trained to the end, killed and continued; and what is refused."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import rows

import evonas
from evonas.adversarial_sets import AdversarialSet, save_adversarial_set
from evonas.cli import main
from evonas.files import take_lock
from evonas.report import read_audit
from evonas.runs import RunFolder
from evonas.runs.export_card import audited

HERE = ("--executor", "local", "--device", "cpu")


def audit(folder: Path, *words: str) -> None:
    assert main(["audit", str(folder), *words, *HERE]) == 0


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["audit", *words]) == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    return text


def summary(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "audit.json").read_text())
    return content


@pytest.mark.lengthy
def test_kept_weights_and_those_trained_again_give_equal_rows(
    copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measure = ("--measure", "clean,pgd20,contrast", "--images", "60")
    audit(copied_run, *measure)
    assert "trained in" not in capsys.readouterr().out
    kept = rows(copied_run / "audit.csv")
    front = {row["arch_id"] for row in rows(copied_run / "front.csv")}
    assert {row["arch_id"] for row in kept} == front
    assert {row["weights"] for row in kept} == {"search"}
    assert {row["images"] for row in kept} == {"60"}
    first = (copied_run / "audit.json").read_bytes()

    audit(copied_run, *measure)  # everything is recorded
    assert "0 pending" in capsys.readouterr().out
    assert (rows(copied_run / "audit.csv"), (copied_run / "audit.json").read_bytes()) == (kept, first)

    shutil.rmtree(copied_run / "audit")
    shutil.rmtree(copied_run / "weights")
    audit(copied_run, *measure)
    said = capsys.readouterr().out
    assert f"no weights are kept of {len(front)}: trained again from their seeds" in said
    assert "trained in" in said
    assert (rows(copied_run / "audit.csv"), (copied_run / "audit.json").read_bytes()) == (kept, first)


@pytest.mark.lengthy
def test_rows_of_other_weights_stay(copied_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    audit(copied_run, "best", "--measure", "clean", "--images", "30")
    audit(copied_run, "best", "--measure", "clean,pgd10", "--images", "30", "--train", "--epochs", "1", "--json")
    printed = json.loads(capsys.readouterr().out.partition("\n{")[2].join(["{", ""]) or "null")
    assert [row["weights"] for row in printed["rows"]] == ["audit", "search"]
    found = read_audit(copied_run)
    assert [(row["weights"], row["pgd10_error"] is None) for row in found.rows] == [("audit", False), ("search", True)]
    assert [*(copied_run / "retrained").glob("*.safetensors")]


@pytest.mark.lengthy
def test_a_row_without_a_gradient_check_stands_beside_one_with_it(copied_run: Path) -> None:
    first, second = [row["arch_id"] for row in rows(copied_run / "population.csv")][:2]
    checked = (first, "--measure", "clean,gradient_check", "--images", "30")
    audit(copied_run, *checked)
    audit(copied_run, second, "--measure", "clean", "--images", "30")
    before = rows(copied_run / "audit.csv")
    audit(copied_run, *checked)
    assert sorted(row["gradient_check"] == "" for row in before) == [False, True]
    assert {row["arch_id"] for row in rows(copied_run / "audit.csv")} == {first, second}


@pytest.mark.lengthy
def test_training_to_the_end_keeps_the_size_of_the_search_where_asked(copied_run: Path) -> None:
    measure = ("best", "--measure", "clean", "--images", "30", "--train", "--epochs", "1")
    searched = rows(copied_run / "front.csv")[0]
    audit(copied_run, *measure, "--searched-size")
    (kept,) = rows(copied_run / "audit.csv")
    assert [kept[name] for name in ("arch_id", "params", "macs")] == [
        searched[name] for name in ("arch_id", "params", "macs")
    ]
    audit(copied_run, *measure)
    wide, again = rows(copied_run / "audit.csv")
    assert again == kept  # of equal epochs, and another training
    assert (kept["channels"], wide["channels"]) == ("2", "32")
    assert int(wide["macs"]) > 100 * int(kept["macs"])


@pytest.mark.lengthy
def test_trainings_of_equal_epochs_have_a_row_each(copied_run: Path) -> None:
    measure = ("best", "--measure", "clean", "--images", "30", "--train", "--epochs", "1", "--searched-size")
    audit(copied_run, *measure)
    audit(copied_run, *measure, "--recipe", "fast_adversarial")
    table = rows(copied_run / "audit.csv")
    assert [row["recipe"] for row in table] == ["fast_adversarial", "standard"]
    assert {(row["arch_id"], row["epochs"], row["channels"]) for row in table} == {(table[0]["arch_id"], "1", "2")}
    names = evonas.open_run(copied_run).trainings()
    assert sorted(f"retrained/{row['training']}" for row in table) == sorted(names)
    audit(copied_run, *measure)  # in its own row again
    assert [row["recipe"] for row in rows(copied_run / "audit.csv")] == ["standard", "fast_adversarial"]
    for row in table:
        measured = audited(copied_run, row["arch_id"], f"retrained/{row['training']}", training=row["training"])
        assert (measured or {}).get("measured") == {"clean_error": float(row["clean_error"])}


@pytest.mark.lengthy
def test_a_published_training_says_when_its_learning_rate_falls(
    copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measure = ("best", "--measure", "clean", "--images", "30", "--train", "--searched-size", "--recipe", "gaussian")
    audit(copied_run, *measure, "--published", "--epochs", "4")
    said = " ".join(capsys.readouterr().out.split())
    assert "trained to the end (4 epochs on " in said
    assert ", the learning rate falls to a tenth after 1 and 2)" in said


@pytest.mark.lengthy
def test_training_to_the_end_takes_all_images_but_the_test_parts_where_asked(
    copied_run: Path, tmp_path: Path, digits_set: AdversarialSet, capsys: pytest.CaptureFixture[str]
) -> None:
    """A set whose clean images are trained on is refused by its name, and left out of a list of measurements."""
    train = ("best", "--images", "30", "--train", "--epochs", "1", "--searched-size")
    audit(copied_run, *train, "--measure", "clean", "--train-on", "all")
    assert "1 epochs on the 350 images of the train, validation and adversarial parts" in capsys.readouterr().out
    (row,) = rows(copied_run / "audit.csv")
    assert row["train_on"] == "all"
    audit(copied_run, *train, "--measure", "clean")
    assert [row["train_on"] for row in rows(copied_run / "audit.csv")] == ["train", "all"]
    file = tmp_path / "mine.safetensors"
    save_adversarial_set(file, digits_set)
    capsys.readouterr()
    named = (*train, "--measure", "clean,adversarial_set", "--adversarial-set", str(file))
    said = refused(capsys, str(copied_run), *named, "--train-on", "all", *HERE)
    assert "expected --train-on train with --measure adversarial_set: with all, networks are trained on 12" in said
    audit(copied_run, *named)
    assert "adversarial_set_error" in rows(copied_run / "audit.csv")[0]


@pytest.mark.lengthy
def test_replicates_have_means_and_the_front_its_probabilities(copied_run: Path) -> None:
    audit(copied_run, "--measure", "clean", "--images", "60", "--replicates", "2")
    found, table = summary(copied_run), rows(copied_run / "audit.csv")
    assert found["replicates"] == 2
    assert {*found["on_front"]} == {*found["replicated"]} == {row["arch_id"] for row in table}
    assert all(0 <= each <= 1 for each in found["on_front"].values())
    for row in table:
        clean = found["replicated"][row["arch_id"]]["clean_error"]
        assert clean["values"][0] == float(row["clean_error"])
        assert clean["mean"] == pytest.approx(sum(clean["values"]) / 2)
        low, high = found["intervals"][row["arch_id"]]["clean_error"]
        assert low <= float(row["clean_error"]) <= high


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--measure", "pgd21"), "unknown measurement 'pgd21'; did you mean pgd20?"),
        (
            ("--train", "--recipe", "gaussian", "--recipe-epsilon", "0.1"),
            "expected a recipe with a radius for --recipe-ep",
        ),
        (("--measure", "adversarial_set"), "expected a file with --adversarial-set"),
        (("nothing",), "got 'nothing'; see population.csv"),
        (("--epochs", "3"), "expected --train with --epochs"),
        (("--searched-size",), "expected --train with --searched-size"),
        (("--train-on", "all"), "expected --train with --train-on"),
        (("--train", "--recipe-epsilon", "0.1"), "expected --recipe with --recipe-epsilon"),
        (
            ("--train", "--recipe", "pgd_at", "--published", "--epochs", "2"),
            "whose learning rate falls after 102 and 154 of 205, got 2; give more of them, or leave out --published",
        ),
        (("--train", "--epochs", "4", "--average", "swa"), "expected two epochs or more that swa averages, got 1 of 4"),
        (("--epsilon", "8"), "8/255?"),
        (("--images", "3", *HERE), "at least one image a class"),
        (("--replicates", "0"), "expected replicates >= 1"),
    ],
)
def test_what_cannot_be_is_one_line(
    words: tuple[str, ...], message: str, roco_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(capsys, str(roco_run), *words)
    assert not (roco_run / "audit").exists()


def test_a_missing_library_is_named_before_anything_is_done(
    roco_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    text = refused(capsys, str(roco_run), "--measure", "standard")
    assert "expected pyautoattack, foolbox for" in text
    assert "pip install 'evonas[audit]'" in text
    assert not (roco_run / "audit").exists()


def test_a_second_audit_of_a_run_is_one_line(copied_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of whatever weights: each keeps the rows of all earlier ones."""
    with open(copied_run / "audit.lock", "ab") as other:
        take_lock(other, copied_run)
        said = refused(capsys, str(copied_run), "--measure", "clean", *HERE)
    assert f"{copied_run}/audit.csv is being written by another process; wait for it" in said
    assert not (copied_run / "audit").exists()


@pytest.mark.lengthy
def test_an_audit_beside_a_search_that_goes_on(copied_run: Path) -> None:
    """It takes no lock of the search, which for its part leaves alone what the audit is writing."""
    with RunFolder(copied_run).locked():
        audit(copied_run, "best", "--measure", "clean", "--images", "30")
    assert len(rows(copied_run / "audit.csv")) == 1


@pytest.mark.lengthy
def test_damaged_weights_are_one_line(copied_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = next((copied_run / "weights").iterdir())
    path.write_bytes(path.read_bytes()[:-1])
    assert path.name in refused(capsys, str(copied_run), "--measure", "clean", *HERE)


def children(parent: int) -> list[int]:
    """Processes that a process has started, and those that these have."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                status = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(status[1]) == parent:
                found += [int(folder.name), *children(int(folder.name))]
    return found


@pytest.mark.slow
def test_an_audit_killed_five_times_equals_an_undisturbed_one(copied_run: Path, tmp_path: Path) -> None:
    """Its driver three times, a worker twice, each time when some more is recorded."""
    words = ("--measure", "clean,fgsm_linf,pgd10,pgd20,gaussian_noise,gradient_check", "--images", "60")
    command = [sys.executable, "-m", "evonas", "audit", str(copied_run), *words, "--workers", "2", "--device", "cpu"]
    whole = Path(shutil.copytree(copied_run, tmp_path / "whole"))
    shutil.rmtree(copied_run / "weights")
    records, rng = copied_run / "audit" / "search" / "rows.jsonl", random.Random(0)

    def recorded() -> int:
        return len(records.read_bytes().splitlines()) if records.exists() else 0

    for victim in ("driver", "worker", "driver", "worker", "driver"):
        begun = recorded()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as process:
            while process.poll() is None and recorded() <= begun:
                time.sleep(0.05)
            workers = [each for each in children(process.pid) if each != process.pid]
            if process.poll() is None and victim == "worker" and workers:
                os.kill(rng.choice(workers), signal.SIGKILL)
                while process.poll() is None and recorded() <= begun + 1:
                    time.sleep(0.05)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    audit(whole, *words)
    assert rows(copied_run / "audit.csv") == rows(whole / "audit.csv")
    assert summary(copied_run) == summary(whole)
