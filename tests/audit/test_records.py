"""Records of a retraining: what is written is found again, what is torn is not, and one process writes."""

from pathlib import Path

import pytest

from evonas.audit import RetrainedRecords, digest
from evonas.errors import RunInUseError, StorageError


def write_two(folder: Path) -> bytes:
    with RetrainedRecords.opened(folder) as records:
        records.add("trained", "a", "d1", status="ok", seconds=1.5, sha256="x")
        records.add("scored", "a", "d2", status="ok", values={"clean_error": 0.25})
        return records.path.read_bytes()


def test_what_was_recorded_is_found_again(tmp_path: Path) -> None:
    write_two(tmp_path / "retrained")
    with RetrainedRecords.opened(tmp_path / "retrained") as records:
        trained, scored = records.find("trained", "a", "d1"), records.find("scored", "a", "d2")
        assert trained is not None
        assert scored is not None
        assert (trained["seconds"], scored["values"]) == (1.5, {"clean_error": 0.25})
        assert records.find("scored", "a", "d1") is None
        assert records.find("scored", "b", "d2") is None
        assert records.damaged == 0


def test_of_several_lines_the_last_one_counts(tmp_path: Path) -> None:
    write_two(tmp_path)
    with RetrainedRecords.opened(tmp_path) as records:
        records.add("trained", "a", "d1", status="failed", reason="why")
    with RetrainedRecords.opened(tmp_path) as records:
        assert records.find("trained", "a", "d1") == {
            "kind": "trained",
            "arch_id": "a",
            "digest": "d1",
            "status": "failed",
            "reason": "why",
        }


def test_a_line_torn_at_any_byte_is_lost_alone(tmp_path: Path) -> None:
    content = write_two(tmp_path)
    first = content.index(b"\n") + 1
    for length in range(first, len(content)):
        (tmp_path / "rows.jsonl").write_bytes(content[:length])
        with RetrainedRecords.opened(tmp_path) as records:
            assert records.find("trained", "a", "d1") is not None
            assert records.find("scored", "a", "d2") is None
            assert records.damaged == (length > first)
            records.add("scored", "b", "d2", status="ok", values={})
        with RetrainedRecords.opened(tmp_path) as records:
            assert records.find("trained", "a", "d1") is not None
            assert records.find("scored", "b", "d2") is not None


def test_an_altered_line_counts_as_not_written(tmp_path: Path) -> None:
    content = write_two(tmp_path)
    (tmp_path / "rows.jsonl").write_bytes(content.replace(b"0.25", b"0.05") + b"[]\n{}\n\xff\n")
    with RetrainedRecords.opened(tmp_path) as records:
        assert records.find("trained", "a", "d1") is not None
        assert records.find("scored", "a", "d2") is None
        assert records.damaged == 4


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with (
        RetrainedRecords.opened(tmp_path),
        pytest.raises(RunInUseError, match="another process"),
        RetrainedRecords.opened(tmp_path),
    ):
        pass


def test_weights_are_given_back_only_as_they_were_written(tmp_path: Path) -> None:
    with RetrainedRecords.opened(tmp_path) as records:
        sha256 = records.keep_weights("a", "0123456789abcdef", b"weights")
        path = tmp_path / "a-01234567.safetensors"
        assert records.weights_path("a", "0123456789abcdef") == path
        assert records.weights("a", "0123456789abcdef", sha256) == b"weights"
        path.write_bytes(b"Weights")
        assert records.weights("a", "0123456789abcdef", sha256) is None
        path.unlink()
        assert records.weights("a", "0123456789abcdef", sha256) is None
        path.mkdir()
        with pytest.raises(StorageError, match="could not read"):
            records.weights("a", "0123456789abcdef", sha256)


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".a-01234567.safetensors.77.tmp", ".retrained.csv.77.tmp", "mine.tmp", "a-01234567.safetensors"):
        (tmp_path / name).write_bytes(b"")
    with RetrainedRecords.opened(tmp_path) as records:
        records.sweep()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-01234567.safetensors", "mine.tmp", "rows.jsonl"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="could not open"), RetrainedRecords.opened(tmp_path / "file" / "retrained"):
        pass


def test_a_digest_depends_on_values_not_on_their_order() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert len({digest({"a": 1}), digest({"a": 2}), digest({"a": "1"}), digest({"b": 1})}) == 4
