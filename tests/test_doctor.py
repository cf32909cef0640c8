"""The doctor: what it prints of a machine, and that it finds what is broken."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evonas import doctor
from evonas.data import DATA_SETS
from evonas.doctor import Examination, Finding, examine, run_doctor
from evonas.errors import ConfigurationError, ExecutionError
from evonas.executors import LocalExecutor
from evonas.runs import guarded, parse
from evonas.types import Activity


def findings(examination: Examination) -> dict[str, Finding]:
    return {finding.about: finding for finding in examine(examination)}


@pytest.mark.slow
def test_every_executor_gives_the_same_values(ray_here: Any, tmp_path: Path) -> None:
    """Trained for two steps in this process, in another one, and in a worker of Ray."""
    found = findings(Examination(out=tmp_path, data_root=tmp_path))
    assert [about for about, finding in found.items() if finding.broken] == []
    assert found["local on cpu"].text.startswith("ok, ")
    for name in ("process", "ray"):
        assert re.fullmatch(r"ok, \d+\.\d s with its start, equal to the first", found[f"{name} on cpu"].text)
    assert found["ray"].text == ray_here.__version__
    assert found["ray cluster"].text.endswith("1 machine(s), 2 CPUs, 0 GPUs")


def test_command_prints_a_line_each_and_ends_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in DATA_SETS["cifar10"].files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    (tmp_path / "own.npz").touch()
    examination = Examination(executors=("local",), out=tmp_path / "runs", data_root=tmp_path)
    assert guarded(lambda: run_doctor(examination)) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in printed.out.splitlines())
    assert list(lines)[:3] == ["python", "evonas", "torch"]
    assert lines["data"].endswith(f"below {tmp_path}: cifar10, npz:{tmp_path}/own.npz")
    assert f"GB free at {tmp_path / 'runs'}" in lines["disk, runs"]
    assert lines["local on cpu"].startswith("ok")
    assert "ray" not in lines
    assert not (tmp_path / "runs").exists()  # it only looks


def test_a_folder_that_cannot_be_written_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write anywhere, whatever a folder's mode
    found = findings(Examination(executors=(), out=tmp_path / "runs"))
    assert found["disk, runs"].broken
    assert not found["disk, data"].broken


def test_a_full_disk_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(total=1e12, used=1e12, free=1e6))
    found = findings(Examination(executors=(), out=tmp_path, data_root=tmp_path))
    assert found["disk, runs"].broken
    assert not found["disk, data"].broken  # nothing is to be written there


def test_a_cluster_that_is_not_there_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Told at once, and what needs no cluster is looked at all the same."""
    pytest.importorskip("ray")
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # other tests have one
    with socket.socket() as listening:  # its port is nobody else's, and refuses while nobody listens
        listening.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        examination = Examination(executors=("local", "ray"), ray_address=address)
        assert guarded(lambda: run_doctor(examination)) == 2
    printed = capsys.readouterr()
    assert printed.err == "error: 1 of the above broken: ray cluster; mend that and look again\n"
    assert f"BROKEN: expected a Ray cluster at {address}, nothing answers there" in printed.out
    assert "local on cpu" in printed.out
    assert "ray on cpu" not in printed.out
    assert "Traceback" not in printed.out


def test_an_executor_that_fails_is_broken_and_the_next_one_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    values: Iterator[Any] = iter([{"weight_sum": 1.5}, ZeroDivisionError("no such\nthing"), {"weight_sum": 1.25}])

    def evaluate(examination: Examination, name: str, device: str) -> dict[str, float]:
        value = next(values)
        if isinstance(value, Exception):
            raise value
        return dict(value)

    monkeypatch.setattr(doctor, "_evaluate", evaluate)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    found = [each for each in examine(Examination(executors=("local", "process", "process"))) if "on cpu" in each.about]
    assert [each.broken for each in found] == [False, True, True]
    assert found[1].text == "ZeroDivisionError: no such thing"
    assert found[2].text.endswith("but it found {'weight_sum': 1.25} where the first found {'weight_sum': 1.5}")


def test_values_of_another_machine_may_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_evaluate", lambda *arguments: {"weight_sum": 1.25})
    elsewhere = Examination(ray_address="cluster:6379")
    (found,) = doctor._evaluated(elsewhere, "ray", "cpu", {"weight_sum": 1.5})
    assert not found.broken
    assert found.text.endswith("another kind of CPU rounds differently")
    (found,) = doctor._evaluated(elsewhere, "process", "cpu", {"weight_sum": 1.5})
    assert found.broken


def test_an_executor_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(LocalExecutor):
        def next_finished(self) -> Any:
            while True:
                self._report(Activity(0, 1, 2))

    monkeypatch.setattr(doctor, "make_executor", lambda *arguments: Silent())
    monkeypatch.setattr(doctor, "SECONDS_AT_MOST", 0.05)
    with pytest.raises(ExecutionError, match=r"a result within 0.05 seconds, got none, 0 of 2 slots are busy"):
        doctor._evaluate(Examination(), "local", "cpu")


def test_what_is_broken_is_named_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        doctor, "examine", lambda _: iter([Finding("a", "x", True), Finding("b", "y"), Finding("c", "z", True)])
    )
    with pytest.raises(ExecutionError, match="2 of the above broken: a, c"):
        run_doctor(Examination())


def test_an_unknown_executor_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse({"": Examination()}, ["--executors", "local", "ray"]) == Examination(executors=("local", "ray"))
    assert guarded(lambda: parse({"": Examination()}, ["--executors", "dask"])) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "dask" in message


def test_a_name_with_a_line_break_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> None:
        raise ConfigurationError("expected a run, got 'roco\n\x1b[31m'")

    assert guarded(broken) == 2
    assert capsys.readouterr().err == "error: expected a run, got 'roco\\n\\x1b[31m'\n"
