"""Networks trained and measured as jobs: what is finished is never redone, and what fails, fails alone."""

import errno
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import KeepingExecutor
from tiny_trainings import CHAIN, DIGITS, KINDS, NOTHING, PHASE_SPACE, PHASES, SCRATCH, SLICE, tensors, trained
from torch import nn

from evonas.audit import (
    CLEAN,
    MEASUREMENTS,
    Audit,
    AuditNetwork,
    AuditRecords,
    FinalTraining,
    Measured,
    Measurement,
    lightest,
    pgd_grid,
)
from evonas.data import Dataset
from evonas.errors import DivergedError, StorageError
from evonas.executors import Executor, Job, LocalExecutor, ProcessExecutor, ignore
from evonas.objectives import Candidate
from evonas.training import Training
from evonas.types import Genome, Progress, Report, arch_id

pytestmark = pytest.mark.lengthy

PAIR = PHASE_SPACE.canonical(PHASE_SPACE.designs()["pair"])
CHAINS, PAIRS = AuditNetwork("first", CHAIN, PHASES), AuditNetwork("first", PAIR, PHASES)
MEASURED = Measured(measurements=(CLEAN, *MEASUREMENTS["fgsm2"]), test_limit=10)
"""clean_error and fgsm_error."""
LINES = 6
"""Records of two networks: each is trained once and measured twice."""


@dataclass
class Done:
    """What one process did."""

    rows: list[dict[str, Any]]
    told: list[tuple[str, str]]
    """(arch_id, kind) of every new record."""
    said: list[str]
    pending: int
    work: dict[str, float]
    """Predicted work of the jobs that were expected and not done."""


def run(
    folder: Path,
    networks: Sequence[AuditNetwork] = (CHAINS, PAIRS),
    measured: Measured = MEASURED,
    executor: Executor | None = None,
    stop_after: int = 10**6,
    watch: Any = ignore,
    **options: Any,
) -> Done:
    """Continue the audit in a folder.

    Args:
        stop_after: as a signal does, end it after so many records.
    """
    done = Done([], [], [], 0, {})

    def lost(job: Job, why: str) -> None:
        done.said.append(why)

    def told(job: Job, network: AuditNetwork, record: Mapping[str, Any]) -> None:
        assert done.work.pop(job.key, job.predicted) == job.predicted
        done.told.append((network.arch_id, record["kind"]))
        if (record["kind"], record["status"]) == ("trained", "failed"):
            for key in audit.after_training(network):
                del done.work[key]
        if len(done.told) == stop_after:
            raise KeyboardInterrupt

    with AuditRecords.opened(folder) as records:
        audit = Audit(networks, measured, records, **options)
        done.pending = len(audit.pending())
        done.work = audit.work()
        audit.run(executor or LocalExecutor(), watch, lost, told)
        assert not [each for each in audit.pending() if not options.get("retry_failed")]
        audit.forget_checkpoints()
        done.rows = audit.rows()
    return done


def lines(folder: Path) -> list[dict[str, Any]]:
    """All records but for times, in no order."""
    found = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    kept = [{name: value for name, value in each.items() if name not in ("seconds", "checksum")} for each in found]
    return sorted(kept, key=json.dumps)


def timeless(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "train_seconds"} for row in rows]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """An audit that nothing has disturbed."""
    folder = tmp_path_factory.mktemp("audit") / "whole"
    return folder, run(folder)


def test_every_step_is_recorded_and_rows_say_all_of_it(whole: tuple[Path, Done]) -> None:
    folder, done = whole
    assert done.pending == 2
    assert done.told == [
        (CHAINS.arch_id, "trained"),
        (PAIRS.arch_id, "trained"),
        *[(CHAINS.arch_id, "measured")] * 2,
        *[(PAIRS.arch_id, "measured")] * 2,
    ]
    row, _ = done.rows
    assert list(row) == [
        *("configuration", "arch_id", "status", "clean_error", "fgsm_error", "params", "macs", "channels", "epochs"),
        *("train_seconds", "seed", "data", "genome", "reason"),
    ]
    cost = PHASES.cost(CHAIN)
    assert (row["params"], row["macs"], row["channels"], row["epochs"]) == (cost.params, cost.macs, 4, 1)
    assert (row["seed"], row["data"], row["genome"]) == (3, "digits", " ".join(map(str, CHAIN.tolist())))
    assert (row["configuration"], row["arch_id"], row["status"]) == ("first", arch_id(CHAIN), "ok")
    assert row["reason"] == ""
    assert row["train_seconds"] > 0
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["rows.jsonl", *(f"{each.arch_id}-{PHASES.digest[:8]}.safetensors" for each in (CHAINS, PAIRS))]
    )
    content = (folder / f"{CHAINS.arch_id}-{PHASES.digest[:8]}.safetensors").read_bytes()
    assert content == trained("phases")


def test_what_is_finished_is_not_done_again(whole: tuple[Path, Done], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, done = whole
    before = (folder / "rows.jsonl").read_bytes()
    monkeypatch.setattr(FinalTraining, "train", refuse)
    again = run(folder)
    assert (again.pending, again.told, again.rows) == (0, [], done.rows)
    assert (folder / "rows.jsonl").read_bytes() == before


def refuse(*arguments: Any) -> Any:
    raise AssertionError("it is finished")


@pytest.mark.parametrize("records", range(1, LINES))
def test_stopped_after_any_step_it_continues(records: int, whole: tuple[Path, Done], tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stop_after=records)
    assert len(lines(tmp_path)) == records
    rest = run(tmp_path)
    assert len(rest.told) == LINES - records
    assert timeless(rest.rows) == timeless(whole[1].rows)
    assert lines(tmp_path) == lines(whole[0])


def test_killed_between_weights_and_their_record_it_trains_again(
    whole: tuple[Path, Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: Any, **values: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(AuditRecords, "add", killed)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    run(tmp_path)
    assert lines(tmp_path) == lines(whole[0])


def test_killed_within_a_training_it_continues_with_the_epoch_that_was_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = [replace(CHAINS, training=replace(PHASES, training=replace(PHASES.training, epochs=3)))]
    epochs: list[int] = []
    epoch = Training.run_epoch

    def counted(self: Training, *arguments: Any) -> float:
        epochs.append(self.epoch)
        return epoch(self, *arguments)

    def after_two(event: object) -> None:
        if isinstance(event, Progress) and (event.unit, event.done) == ("epoch", 2):
            raise KeyboardInterrupt

    expected = run(tmp_path / "whole", networks)
    monkeypatch.setattr(Training, "run_epoch", counted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", networks, watch=after_two)
    (checkpoint,) = (tmp_path / "killed").glob("*.training.pt")
    assert checkpoint == networks[0].training.checkpoint(tmp_path / "killed", CHAIN)
    assert not (tmp_path / "killed" / "rows.jsonl").read_bytes()
    assert timeless(run(tmp_path / "killed", networks).rows) == timeless(expected.rows)
    assert epochs == [0, 1, 2]
    assert lines(tmp_path / "killed") == lines(tmp_path / "whole")
    assert not checkpoint.exists()


def test_the_jobs_of_an_audit_are_known_before_it_runs(whole: tuple[Path, Done], tmp_path: Path) -> None:
    """Training and two measurements of each network, all of which are done; none where all is recorded."""
    assert whole[1].work == {}
    networks = [CHAINS, replace(CHAINS, training=DIVERGES)]
    with AuditRecords.opened(tmp_path) as records:
        work = Audit(networks, MEASURED, records).work()
    digests = [network.training.digest[:8] for network in networks]
    columns = ("training", "clean_error", "fgsm_error")
    label = f"{CHAINS.arch_id} of first"
    assert work == {f"{label} {digest}, {column}": CHAINS.macs for digest in digests for column in columns}
    with AuditRecords.opened(whole[0]) as records:
        assert Audit([CHAINS, PAIRS], MEASURED, records).work() == {}


def test_what_is_added_later_is_done_alone(tmp_path: Path) -> None:
    run(tmp_path, [CHAINS], Measured(measurements=(CLEAN,), test_limit=10))
    more = run(tmp_path, [CHAINS, PAIRS])
    assert sorted(more.told) == sorted(
        [(CHAINS.arch_id, "measured"), (PAIRS.arch_id, "trained"), *[(PAIRS.arch_id, "measured")] * 2]
    )
    assert [list(row)[3:5] for row in more.rows] == [["clean_error", "fgsm_error"]] * 2
    fewer = run(tmp_path, [CHAINS], Measured(measurements=(CLEAN,), test_limit=10))
    assert fewer.told == []
    assert "fgsm_error" not in fewer.rows[0]


def test_equal_networks_of_two_searches_are_trained_once(whole: tuple[Path, Done], tmp_path: Path) -> None:
    other = replace(CHAINS, configuration="second")
    done = run(tmp_path, [CHAINS, PAIRS, other])
    assert len(done.told) == LINES
    assert timeless(done.rows[:2]) == timeless(whole[1].rows)
    assert timeless(done.rows[2:]) == timeless([{**done.rows[0], "configuration": "second"}])
    wider = replace(CHAINS, training=replace(PHASES, space=replace(PHASE_SPACE, channels=5)))
    assert (wider.arch_id, wider.key == CHAINS.key) == (CHAINS.arch_id, False)
    assert len(run(tmp_path, [CHAINS, wider]).told) == 3


def test_networks_of_other_seeds_are_measured_on_their_own_images(tmp_path: Path) -> None:
    networks = [CHAINS, replace(CHAINS, training=replace(PHASES, seed=4))]
    seen = Measured(measurements=(Measurement("brightness", "", Brightness()),), test_limit=10)
    together = run(tmp_path / "together", networks, seen).rows
    alone = [run(tmp_path / str(number), [each], seen).rows[0] for number, each in enumerate(networks)]
    assert timeless(together) == timeless(alone)
    assert together[0]["brightness"] != together[1]["brightness"]


@dataclass(frozen=True)
class Brightness:
    """Mean of the test images."""

    def __call__(self, candidate: Candidate, tested: Dataset, batch_size: int, report: Report) -> dict[str, float]:
        return {"brightness": float(tested.validation.images.mean())}


@dataclass(frozen=True)
class Fails:
    """A measurement that a network of this name does not survive."""

    error: str
    arch: str

    def __call__(self, candidate: Candidate, tested: Dataset, batch_size: int, report: Report) -> dict[str, float]:
        if arch_id(candidate.genome) != self.arch:
            return {"fails": 1.0}
        kinds = {"diverges": DivergedError, "storage": StorageError, "defect": RuntimeError}
        raise kinds[self.error]("as it was told to")


def failing(error: str, first: bool = False) -> Measured:
    one, others = Measurement("fails", "", Fails(error, CHAINS.arch_id)), MEASURED.measurements
    return replace(MEASURED, measurements=(one, *others) if first else (*others, one))


DIVERGES = replace(PHASES, training=replace(PHASES.training, lr=1e30, grad_clip=1e30))
"""Within an epoch, on any machine."""


def test_a_network_that_diverges_is_failed_and_not_measured(tmp_path: Path, whole: tuple[Path, Done]) -> None:
    lost = replace(CHAINS, training=DIVERGES)
    done = run(tmp_path, [lost, PAIRS])
    assert [pair for pair in done.told if pair[0] == lost.arch_id] == [(lost.arch_id, "trained")]
    assert done.work == {}
    row, other = done.rows
    assert (row["status"], row["train_seconds"]) == ("failed", None)
    assert row["reason"].startswith("training diverged: the loss of epoch 1 is ")
    assert "clean_error" not in row
    assert timeless([other]) == timeless(whole[1].rows[1:])
    assert not list(tmp_path.glob(f"{lost.arch_id}*"))
    assert (again := run(tmp_path, [lost, PAIRS])).told == []
    assert again.rows == done.rows


def test_a_network_that_diverges_in_a_measurement_fails_there_alone(tmp_path: Path, whole: tuple[Path, Done]) -> None:
    done = run(tmp_path, measured=failing("diverges", first=True))
    assert len(done.told) == LINES + 2
    row, other = done.rows
    assert (row["status"], row["reason"]) == ("failed", "as it was told to")
    assert (other["status"], other["fails"]) == ("ok", 1.0)
    for name in ("clean_error", "fgsm_error"):
        assert [row[name], other[name]] == [each[name] for each in whole[1].rows]
    assert run(tmp_path, measured=failing("diverges", first=True)).told == []


GRID = pgd_grid([(1, 4), (3, 4), (2, 4), (2, 2)], 1 / 255)


def test_measurements_of_one_pass_are_one_job_and_records_of_their_own(tmp_path: Path) -> None:
    """Those of a run that measured each alone: what is there is kept, and what is missing shares a pass."""
    measured = replace(MEASURED, measurements=(CLEAN, *GRID))
    executor = KeepingExecutor()
    whole = run(tmp_path / "whole", [CHAINS], measured, executor=executor)
    assert [job.key.split(" ")[-1] for job in executor.jobs] == [
        *("training", "clean_error", "pgd1_4_error+pgd3_4_error+pgd2_4_error", "pgd2_2_error")
    ]
    assert len(whole.told) == 6
    (row,) = whole.rows
    for each in GRID:
        alone = replace(MEASURED, measurements=(each,))
        (found,) = run(tmp_path / "alone", [CHAINS], alone).rows
        assert found[each.column] == row[each.column]
    assert run(tmp_path / "alone", [CHAINS], measured).told == [(CHAINS.arch_id, "measured")]
    assert lines(tmp_path / "alone") == lines(tmp_path / "whole")
    run(tmp_path / "partly", [CHAINS], replace(MEASURED, measurements=(CLEAN, GRID[1])))
    executor = KeepingExecutor()
    partly = run(tmp_path / "partly", [CHAINS], measured, executor=executor)
    assert timeless(partly.rows) == timeless(whole.rows)
    assert [job.key.split(" ")[-1] for job in executor.jobs] == ["pgd1_4_error+pgd2_4_error", "pgd2_2_error"]


class Overflows(nn.Module):
    """Its logits leave the finite numbers where an image is changed by more than two steps."""

    def __init__(self, clean: torch.Tensor) -> None:
        super().__init__()
        self.clean = clean

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        far = ((x - self.clean).abs().amax() > 2.5 / 255).float()
        return torch.stack([x.mean(dim=(1, 2, 3)) * (1 + k) for k in range(10)], dim=1) / (1 - far)


def test_of_measurements_in_one_pass_those_that_are_finite_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = torch.from_numpy(MEASURED.test_part(PHASES.data, PHASES.seed).images).float() / 255
    given = FinalTraining.candidate

    def overflowing(self: FinalTraining, genome: Genome, weights: bytes) -> Candidate:
        return replace(given(self, genome, weights), network=Overflows(clean))

    monkeypatch.setattr(FinalTraining, "candidate", overflowing)
    done = run(tmp_path, [CHAINS], replace(MEASURED, measurements=GRID))
    (row,) = done.rows
    assert (row["status"], row["reason"]) == ("failed", "training diverged: the network's logits are not finite")
    assert {"pgd1_4_error", "pgd2_4_error", "pgd2_2_error"} <= row.keys()
    assert "pgd3_4_error" not in row
    assert len(done.told) == 5


def test_a_defect_of_one_measurement_is_its_failure(tmp_path: Path) -> None:
    row, other = run(tmp_path, measured=failing("defect")).rows
    assert (row["status"], row["reason"]) == ("failed", "RuntimeError: as it was told to")
    assert other["status"] == "ok"


def test_what_is_recorded_as_failed_is_done_again_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, fails = FinalTraining.train, Fails.__call__

    def diverges(self: FinalTraining, genome: Genome, *arguments: Any) -> tuple[bytes, float]:
        if arch_id(genome) == PAIRS.arch_id:
            raise DivergedError("training diverged")
        return train(self, genome, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(FinalTraining, "train", diverges)
        first = run(tmp_path, measured=failing("diverges"))
    assert [row["status"] for row in first.rows] == ["failed", "failed"]
    still = run(tmp_path, measured=failing("diverges"), retry_failed=True)
    assert sorted(still.told) == sorted(
        [(CHAINS.arch_id, "measured"), (PAIRS.arch_id, "trained"), *[(PAIRS.arch_id, "measured")] * 3]
    )
    assert [row["status"] for row in still.rows] == ["failed", "ok"]
    monkeypatch.setattr(Fails, "__call__", lambda self, *arguments: fails(replace(self, arch=""), *arguments))
    last = run(tmp_path, measured=failing("diverges"), retry_failed=True)
    assert last.told == [(CHAINS.arch_id, "measured")]
    assert [(row["status"], row["fails"], row["reason"]) for row in last.rows] == [("ok", 1.0, "")] * 2


def test_a_measurement_that_meets_a_full_disk_is_no_failure_of_the_network(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="as it was told to"):
        run(tmp_path, measured=failing("storage"))
    assert all(each["status"] == "ok" for each in lines(tmp_path))
    assert [row["status"] for row in run(tmp_path, measured=MEASURED).rows] == ["ok", "ok"]


@pytest.mark.parametrize("written", ["training.pt", "safetensors", "rows.jsonl"])
def test_a_full_disk_ends_the_audit_and_nothing_is_lost(
    written: str, tmp_path: Path, whole: tuple[Path, Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found where the checkpoint of an epoch, the weights, or a record is written."""
    fsync = os.fsync

    def full(descriptor: int) -> None:
        if written in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(StorageError, match=rf"could not write .*{written}: No space left .*; free some space"):
            run(tmp_path)
    assert (tmp_path / "rows.jsonl").read_bytes() == b""
    assert timeless(run(tmp_path).rows) == timeless(whole[1].rows)
    assert lines(tmp_path) == lines(whole[0])


@pytest.mark.parametrize("damage", ["altered", "gone"])
def test_weights_that_are_lost_are_trained_again_where_they_are_needed(damage: str, tmp_path: Path) -> None:
    run(tmp_path, [CHAINS], Measured(measurements=(CLEAN,), test_limit=10))
    (path,) = tmp_path.glob("*.safetensors")
    content = path.read_bytes()
    if damage == "altered":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        path.unlink()
    assert run(tmp_path, [CHAINS], Measured(measurements=(CLEAN,), test_limit=10)).told == []
    done = run(tmp_path, [CHAINS])
    assert done.said == [f"{path} is gone or damaged: {CHAINS.arch_id} is trained again"]
    assert done.told == [(CHAINS.arch_id, "trained"), (CHAINS.arch_id, "measured")]
    assert tensors(path.read_bytes()).keys() == tensors(content).keys()
    assert path.read_bytes() == content


def test_what_version_0_1_0_has_trained_is_measured_without_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with AuditRecords.opened(tmp_path) as records:
        sha256 = records.keep_weights(CHAINS.arch_id, PHASES.digest, trained("phases"))
        records.add("trained", CHAINS.arch_id, PHASES.digest, status="ok", seconds=12.5, sha256=sha256)
        records.add("scored", CHAINS.arch_id, "0123456789abcdef", status="ok", values={"clean_error": 0.9})
    monkeypatch.setattr(FinalTraining, "train", refuse)
    done = run(tmp_path, [CHAINS])
    assert done.told == [(CHAINS.arch_id, "measured")] * 2
    assert done.rows[0]["train_seconds"] == 12.5


@pytest.mark.slow
def test_processes_give_the_rows_of_one_process(tmp_path: Path) -> None:
    """A network that diverges, one that diverges in a measurement, and one of a supernet among them."""
    networks = [
        CHAINS,
        PAIRS,
        replace(PAIRS, training=DIVERGES),
        AuditNetwork("slices", SLICE, KINDS["finetune"]),
        AuditNetwork("Table X", NOTHING, KINDS["hand-made"], "ShuffleNetV2"),
    ]
    here = run(tmp_path / "here", networks, failing("diverges"))
    there = run(tmp_path / "there", networks, failing("diverges"), ProcessExecutor(2))
    assert timeless(there.rows) == timeless(here.rows)
    assert [row["status"] for row in here.rows] == ["failed", "ok", "failed", "ok", "ok"]
    assert lines(tmp_path / "there") == lines(tmp_path / "here")
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == sorted(
        path.name for path in (tmp_path / "here").iterdir()
    )
    weights = [
        {path.name: path.read_bytes() for path in (tmp_path / name).glob("*.safetensors")} for name in ("here", "there")
    ]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_a_full_disk_in_a_worker_process_ends_the_audit(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="as it was told to"):
        run(tmp_path, [CHAINS], failing("storage", first=True), ProcessExecutor(1))
    assert all(each["status"] == "ok" for each in lines(tmp_path))


def test_jobs_have_names_of_their_own_and_the_dearest_can_be_told(tmp_path: Path) -> None:
    longer = replace(PAIRS, training=replace(PHASES, training=replace(PHASES.training, epochs=2)))
    executor = KeepingExecutor()
    run(tmp_path, [CHAINS, PAIRS, longer], executor=executor)
    assert len({job.key for job in executor.jobs}) == len(executor.jobs) == 9
    assert [job.predicted for job in executor.jobs[:3]] == [CHAINS.macs, PAIRS.macs, 2 * PAIRS.macs]
    measuring = [job for job in executor.jobs if job.key.startswith(PAIRS.arch_id) and job.key.endswith("_error")]
    assert [job.predicted for job in measuring] == [PAIRS.macs] * 4
    assert executor.closed == 1


def test_the_executor_is_closed_when_an_audit_ends_early(tmp_path: Path) -> None:
    executor = KeepingExecutor()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, executor=executor, stop_after=1)
    assert executor.closed == 1


def test_the_lightest_networks_come_first() -> None:
    slices = AuditNetwork("slices", SLICE, SCRATCH)
    expected = sorted([CHAINS, PAIRS, slices], key=lambda network: network.macs)
    assert list(lightest([slices, CHAINS, PAIRS])) == expected
    assert [each.macs for each in expected] == sorted({each.macs for each in expected})
    twins = [replace(CHAINS, name=name) for name in "ba"]
    assert list(lightest(twins)) == twins  # of equal macs and arch_id they stay


def test_test_images_of_an_audit_are_no_others() -> None:
    part = MEASURED.test_part(DIGITS, 3)
    tested = MEASURED.tested(DIGITS, 3)
    assert tested.validation.images.tobytes() == tested.train.images.tobytes() == part.images.tobytes()
    assert (len(part), tested.image_size) == (10, 32)
