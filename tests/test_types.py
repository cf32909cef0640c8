"""The shared words: results, architecture names, genomes, errors."""

import hashlib
import math
import pickle
import re
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evonas.errors import (
    ConfigurationError,
    DataError,
    DivergedError,
    EvonasError,
    RunInUseError,
    RunMismatchError,
    StorageError,
    UnknownNameError,
    choose,
)
from evonas.types import Cost, EvaluationResult, Space, arch_id, as_genome


def test_result_holds_plain_numbers() -> None:
    genome: Any = np.array([1, 0, 2])
    objectives: dict[str, Any] = {"macs": np.int64(7), "clean_error": np.float32(0.5)}
    result = EvaluationResult(genome, objectives)
    assert result.genome == (1, 0, 2)
    assert all(type(gene) is int for gene in result.genome)
    assert result.objectives == {"macs": 7, "clean_error": 0.5}
    assert type(result.objectives["macs"]) is int
    assert type(result.objectives["clean_error"]) is float
    assert (result.status, result.reason, result.seed, result.seconds, result.ok) == ("ok", "", 0, 0.0, True)


def test_result_keeps_its_objectives_when_the_callers_change() -> None:
    values = {"macs": 7.0}
    result = EvaluationResult((1,), values)
    values["macs"] = 0.0
    assert result.objectives == {"macs": 7.0}
    with pytest.raises(FrozenInstanceError):
        result.seed = 3  # type: ignore[misc]


def test_result_refuses_another_status() -> None:
    with pytest.raises(ValueError, match="expected status 'ok', 'failed' or 'stopped', got 'done'"):
        EvaluationResult((1,), status="done")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (DivergedError("the loss was nan in epoch 3"), "the loss was nan in epoch 3"),
        (RuntimeError("out of\n   memory"), "RuntimeError: out of memory"),
        (ZeroDivisionError(), "ZeroDivisionError"),
        (UnknownNameError("unknown space 'x'"), "unknown space 'x'"),
        ("took too long", "took too long"),
        ("", "no reason was given"),
        (DataError(""), "no reason was given"),
    ],
)
def test_reason_of_a_failure_is_one_line(cause: Any, reason: str) -> None:
    result = EvaluationResult.failure(np.array([1, 2]), 5, cause, 1.5)
    assert result == EvaluationResult((1, 2), {}, "failed", reason, 5, 1.5)
    assert not result.ok


def test_reason_of_a_failure_is_bounded() -> None:
    assert len(EvaluationResult.failure((1,), 0, "x" * 10_000).reason) == 500


@given(st.text())
def test_reason_never_has_line_breaks(text: str) -> None:
    reason = EvaluationResult.failure((1,), 0, text).reason
    assert reason.splitlines() in ([], [reason])


def test_arch_id_is_a_hash_of_the_integers() -> None:
    expected = hashlib.sha256(b"0 1 12").hexdigest()[:16]
    assert arch_id((0, 1, 12)) == arch_id(np.array([0, 1, 12])) == expected
    assert arch_id((0, 11, 2)) != expected


@given(st.lists(st.integers(0, 30), max_size=6), st.lists(st.integers(0, 30), max_size=6))
def test_arch_id_differs_where_genomes_do(a: list[int], b: list[int]) -> None:
    assert (arch_id(a) == arch_id(b)) == (a == b)


def test_as_genome_takes_integers_of_any_kind() -> None:
    genome = as_genome([1.0, 2.0], 2, "tiny")
    assert genome.dtype == np.int64
    assert genome.tolist() == [1, 2]


@pytest.mark.parametrize("genes", [[1, 2, 3], [[1, 2]], [], 1])
def test_as_genome_refuses_another_shape(genes: Any) -> None:
    with pytest.raises(ValueError, match=r"expected a genome of shape \(2,\) for space 'tiny', got \("):
        as_genome(genes, 2, "tiny")


@pytest.mark.parametrize("gene", [0.5, math.nan, math.inf, 1e30])
def test_as_genome_refuses_what_is_no_integer(gene: float) -> None:
    with pytest.raises(
        ValueError, match=rf"expected integer genes for space 'tiny', got \[{re.escape(str(gene))}, 1\.0\]"
    ):
        as_genome([gene, 1], 2, "tiny")


def test_a_space_is_known_by_what_it_does(tiny_space: Space) -> None:
    assert isinstance(tiny_space, Space)
    assert not isinstance(Cost(1, 2), Space)


@pytest.mark.parametrize(
    ("error", "also"),
    [
        (ConfigurationError, ValueError),
        (UnknownNameError, KeyError),
        (DivergedError, ArithmeticError),
        (DataError, EvonasError),
        (StorageError, EvonasError),
        (RunMismatchError, EvonasError),
        (RunInUseError, EvonasError),
    ],
)
def test_what_a_user_can_cause_is_one_kind_of_error(error: type[Exception], also: type[Exception]) -> None:
    assert issubclass(error, EvonasError)
    assert issubclass(error, also)
    assert str(error("say 'what' came")) == "say 'what' came"


def test_choose_lists_the_known_names() -> None:
    table = {"pgd": 1, "fgsm": 2}
    assert choose(table, "pgd", "attack") == 1
    with pytest.raises(UnknownNameError, match=r"^unknown attack 'cw'; known: fgsm, pgd$"):
        choose(table, "cw", "attack")


def test_weights_travel_with_a_result_and_are_no_part_of_its_value() -> None:
    plain = EvaluationResult((1, 0), {"macs": 3.0}, seed=7)
    given = plain.with_weights(b"weights")
    assert given == plain
    assert (plain.weights, given.weights) == (b"", b"weights")
    there = pickle.loads(pickle.dumps(given)).changed(seconds=2.0)
    assert there.take_weights() == b"weights"
    assert there.weights == there.take_weights() == b""
