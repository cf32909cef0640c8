"""`evonas ship` and `evonas export`, killed at any moment and begun again: the files of an undisturbed command."""

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

KILLS = 5
SMALL = ("--calibration-images", "20", "--attacked-images", "6", "--queries", "4")
SHIP = ("--recipe", "fast_adversarial", "--epochs", "2", "--measure", "clean,pgd10", "--images", "30", *SMALL)
EXPORT = ("best", "--int8", "--images", "30", *SMALL)
TICK = os.sysconf("SC_CLK_TCK")


def begun(words: list[str]) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "evonas", *words], stdout=subprocess.DEVNULL, env=environment, start_new_session=True
    )


def worked(process: int) -> float:
    """Processor seconds of a process and of children that it has waited for; a busy machine does not change them."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICK


def finished(words: list[str]) -> float:
    """Processor seconds of a command that is left alone."""
    before = os.times()
    assert begun(words).wait() == 0
    after = os.times()
    return sum(after[2:4]) - sum(before[2:4])


def kill_at(words: list[str], seconds: float) -> bool:
    """Whether a command was still going on when it had worked so long, and was killed."""
    with begun(words) as process:
        while process.poll() is None and worked(process.pid) < seconds:
            time.sleep(0.01)
        going = process.poll() is None
        if going:
            os.killpg(process.pid, signal.SIGKILL)
    return going


def plain_card(path: Path) -> dict[str, Any]:
    """A card without what is timed."""
    card: dict[str, Any] = json.loads(path.read_text())
    del card["latency"]
    return card


@pytest.mark.slow
@pytest.mark.parametrize(("command", "words"), [("ship", SHIP), ("export", EXPORT)])
def test_killed_five_times_equals_undisturbed(
    command: str, words: tuple[str, ...], copied_run: Path, tmp_path: Path
) -> None:
    whole = Path(shutil.copytree(copied_run, tmp_path / "elsewhere" / copied_run.name))
    named = {
        folder: [
            command,
            str(folder),
            *words,
            *(["--to", str(folder / "shipped" / "net.onnx")] * (command == "export")),
        ]
        for folder in (whole, copied_run)
    }
    seconds, rng = finished(named[whole]), random.Random(0)
    killed = sum(kill_at(named[copied_run], rng.uniform(0.1, 0.95) * seconds) for _ in range(KILLS))
    assert killed >= 3  # what is done is not done again, so that late moments may not come any more
    finished(named[copied_run])
    if command == "ship":
        assert rows(copied_run / "audit.csv") == rows(whole / "audit.csv")
    made, expected = copied_run / "shipped", whole / "shipped"
    assert sorted(each.name for each in made.iterdir()) == sorted(each.name for each in expected.iterdir())
    for name in ("net.onnx", "net.int8.onnx"):
        assert (made / name).read_bytes() == (expected / name).read_bytes()
    assert plain_card(made / "net.card.json") == plain_card(expected / "net.card.json")
