"""Records of an audit: what is written is found again, what is torn is not, and one process writes."""

import errno
import os
from pathlib import Path

import pytest

from evonas.audit import AuditRecords
from evonas.errors import RunInUseError, StorageError
from evonas.parts import digest


def write_two(folder: Path) -> bytes:
    with AuditRecords.opened(folder) as records:
        records.add("trained", "a", "d1", status="ok", seconds=1.5, sha256="x")
        records.add("measured", "a", "d2", status="ok", values={"clean_error": 0.25})
        return records.path.read_bytes()


def test_what_was_recorded_is_found_again(tmp_path: Path) -> None:
    write_two(tmp_path / "retrained")
    with AuditRecords.opened(tmp_path / "retrained") as records:
        trained, measured = records.find("trained", "a", "d1"), records.find("measured", "a", "d2")
        assert trained is not None
        assert measured is not None
        assert (trained["seconds"], measured["values"]) == (1.5, {"clean_error": 0.25})
        assert records.find("measured", "a", "d1") is None
        assert records.find("measured", "b", "d2") is None
        assert records.damaged == 0


def test_of_several_lines_the_last_one_counts(tmp_path: Path) -> None:
    write_two(tmp_path)
    with AuditRecords.opened(tmp_path) as records:
        records.add("trained", "a", "d1", status="failed", reason="why")
    with AuditRecords.opened(tmp_path) as records:
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
        with AuditRecords.opened(tmp_path) as records:
            assert records.find("trained", "a", "d1") is not None
            assert records.find("measured", "a", "d2") is None
            assert records.damaged == (length > first)
            records.add("measured", "b", "d2", status="ok", values={})
        with AuditRecords.opened(tmp_path) as records:
            assert records.find("trained", "a", "d1") is not None
            assert records.find("measured", "b", "d2") is not None


def test_an_altered_line_counts_as_not_written(tmp_path: Path) -> None:
    content = write_two(tmp_path)
    (tmp_path / "rows.jsonl").write_bytes(content.replace(b"0.25", b"0.05") + b"[]\n{}\n\xff\n")
    with AuditRecords.opened(tmp_path) as records:
        assert records.find("trained", "a", "d1") is not None
        assert records.find("measured", "a", "d2") is None
        assert records.damaged == 4


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with (
        AuditRecords.opened(tmp_path),
        pytest.raises(RunInUseError, match="another process"),
        AuditRecords.opened(tmp_path),
    ):
        pass


def test_weights_are_given_back_only_as_they_were_written(tmp_path: Path) -> None:
    with AuditRecords.opened(tmp_path) as records:
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


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="could not open"), AuditRecords.opened(tmp_path / "file" / "retrained"):
        pass


def test_a_line_that_the_disk_has_no_room_for_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = write_two(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with AuditRecords.opened(tmp_path) as records:
        with monkeypatch.context() as patch:
            patch.setattr("evonas.audit.records.os.fsync", full)
            with pytest.raises(StorageError, match=r"could not write .*; free some space"):
                records.add("measured", "b", "d2", status="ok", values={})
        assert records.find("measured", "b", "d2") is None
        assert records.path.read_bytes() == content
        records.add("measured", "b", "d2", status="ok", values={})
    with AuditRecords.opened(tmp_path) as records:
        assert records.damaged == 0
        assert records.find("measured", "b", "d2") is not None


def test_a_digest_depends_on_values_not_on_their_order() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert len({digest({"a": 1}), digest({"a": 2}), digest({"a": "1"}), digest({"b": 1})}) == 4
