"""The search as a pymoo problem: pymoo's own algorithms run on it, and nothing that failed gets through."""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.algorithms.moo.sms import SMSEMOA
from pymoo.algorithms.moo.spea2 import SPEA2
from pymoo.algorithms.moo.unsga3 import UNSGA3
from pymoo.core.problem import Problem
from pymoo.optimize import minimize
from pymoo.util.ref_dirs import get_reference_directions

from evonas.errors import ConfigurationError
from evonas.search import NASProblem, hypervolume, minimised, non_dominated
from evonas.search.evaluations import checked, evaluation_seed
from evonas.search.problem import penalised
from evonas.seeding import derive_seed
from evonas.types import EvaluationResult, Genome, Space, arch_id

OBJECTIVES = ("clean_error", "macs")
FEASIBLE, INFEASIBLE = np.array([0, 1, 2, 0]), np.array([0, 1, 2, 2])
DIRECTIONS = get_reference_directions("das-dennis", 2, n_partitions=7)

ALGORITHMS: dict[str, Callable[[], Any]] = {
    "nsga2": lambda: NSGA2(pop_size=8),
    "nsga3": lambda: NSGA3(DIRECTIONS, pop_size=8),
    "unsga3": lambda: UNSGA3(DIRECTIONS, pop_size=8),
    "smsemoa": lambda: SMSEMOA(pop_size=8),
    "spea2": lambda: SPEA2(pop_size=8),
}


def front_of(result: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(n, m) of a pymoo result, empty where nothing feasible was found."""
    return np.empty((0, 2)) if result.F is None else np.atleast_2d(result.F)


def test_evaluates_by_hand(tiny_space: Space, table: Any) -> None:
    problem = NASProblem(tiny_space, table, seed=5)
    assert isinstance(problem, Problem)
    assert (problem.n_var, problem.n_obj, problem.n_ieq_constr) == (4, 2, 1)
    assert problem.xl.tolist() == [0, 0, 0, 0]
    assert problem.xu.tolist() == [2, 2, 2, 2]
    out = problem.evaluate(np.array([FEASIBLE, [1, 0, 2, 0], INFEASIBLE]), return_as_dictionary=True)
    # (2/3 + 1/4 + 0/5 + 2/6) / 4 = 0.3125; 1 * 12 + 2 * 17 = 46
    assert out["F"][:2].tolist() == [[pytest.approx(0.3125), 46.0]] * 2
    assert out["G"][:2].tolist() == [[0.0], [0.0]]
    assert np.isfinite(out["F"]).all()
    assert out["G"][2, 0] > 0
    key = arch_id(FEASIBLE)
    assert list(problem.results) == [key]  # the same network, evaluated once; the infeasible one never
    assert problem.results[key].genome == (0, 1, 2, 0)
    assert problem.results[key].seed == evaluation_seed(5, key) == derive_seed(5, "evaluation", key)


def test_floats_are_rounded(tiny_space: Space, table: Any) -> None:
    problem = NASProblem(tiny_space, table)
    floats = np.array([[-0.3, 1.4, 1.7, 0.2]])
    assert problem.evaluate(floats)[0].tolist() == problem.evaluate(np.array([FEASIBLE]))[0].tolist()
    assert [result.genome for result in problem.results.values()] == [(0, 1, 2, 0)]


def test_maximised_objectives_change_their_sign(tiny_space: Space, table: Any) -> None:
    problem = NASProblem(tiny_space, table, ("macs", "certified_radius"), maximize=("certified_radius",))
    F, _ = problem.evaluate(np.array([[0, 1, 1, 0]]))
    assert F.tolist() == [[29.0, pytest.approx(-(1 / 2 + 1 / 3))]]
    values = {"macs": 3, "clean_error": 0.5}
    assert minimised(values, ("clean_error", "macs"), ("macs",)) == [0.5, -3.0]


def test_a_factory_is_set_up_once(tiny_space: Space, table: Any) -> None:
    made = []

    class Factory:
        def make_evaluate(self, report: Any) -> Any:
            made.append(report)
            return table

    problem = NASProblem(tiny_space, Factory())
    assert made == []
    problem.evaluate(np.array([FEASIBLE, [1, 1, 1, 1]]))
    problem.evaluate(np.array([[2, 1, 1, 1]]))
    assert len(made) == 1
    assert len(problem.results) == 3


@pytest.mark.parametrize(
    ("objectives", "maximize", "message"),
    [
        ((), (), "expected different objectives, at least one"),
        ("macs", (), "expected different objectives, at least one"),
        (("macs", "macs"), (), "expected different objectives, at least one"),
        (("macs",), ("ood_aupr",), "expected to maximise some of macs, got ood_aupr"),
    ],
)
def test_objectives_are_checked(
    tiny_space: Space, table: Any, objectives: Any, maximize: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        NASProblem(tiny_space, table, objectives, maximize=maximize)


def test_an_evaluator_is_checked(tiny_space: Space) -> None:
    with pytest.raises(TypeError, match=r"expected a function \(genome, seed\)"):
        NASProblem(tiny_space, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"clean_error": 0.1}, "the evaluator gave no macs"),
        ({}, "the evaluator gave no clean_error, macs"),
        ({"clean_error": math.nan, "macs": 3}, "clean_error is nan"),
        ({"clean_error": 0.1, "macs": math.inf, "params": -math.inf}, "macs is inf; params is -inf"),
    ],
)
def test_incomplete_results_become_failed_ones(values: dict[str, float], reason: str) -> None:
    result = EvaluationResult((1, 2), values, seed=4, seconds=2.0)
    assert checked(result, OBJECTIVES) == EvaluationResult((1, 2), {}, "failed", reason, 4, 2.0)


def test_whole_results_stay_as_they_are() -> None:
    result = EvaluationResult((1, 2), {"clean_error": 0.1, "macs": 3, "params": 5}, seed=4)
    assert checked(result, OBJECTIVES) == result


def test_only_what_was_measured_satisfies_the_constraint() -> None:
    good = EvaluationResult((1,), {"clean_error": 0.1, "macs": 3})
    failed = EvaluationResult((1,), {"clean_error": 0.0, "macs": 0}, "failed")
    assert penalised(good, -2.0, OBJECTIVES, ()) == ([0.1, 3.0], -2.0)
    for result, violation in ((failed, 0.0), (failed, -5.0), (None, 3.0), (None, 0.5)):
        F, G = penalised(result, violation, OBJECTIVES, ())
        assert np.isfinite(F).all()
        assert max(0.0, violation) < G


def test_equal_runs_give_equal_results(tiny_space: Space, table: Any) -> None:
    runs = []
    for state in (1, 2):
        np.random.seed(state)  # noqa: NPY002  the global generator plays no part
        problem = NASProblem(tiny_space, table, seed=3)
        found = minimize(problem, NSGA2(pop_size=6), ("n_gen", 4), seed=3)
        runs.append((front_of(found).tolist(), list(problem.results.values())))
    assert runs[0] == runs[1]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_pymoos_algorithms_run_with_stock_operators(name: str, tiny_space: Any, table: Any) -> None:
    """Every third network fails in some way; the front holds the others alone, and evaluates each once."""
    networks = {arch_id(genome): number for number, genome in enumerate(tiny_space.networks())}
    calls: Counter[str] = Counter()

    def evaluate(genome: Genome, seed: int) -> EvaluationResult:
        assert genome.dtype == np.int64
        calls[arch_id(genome)] += 1
        number = networks[arch_id(genome)]  # KeyError, were it infeasible or not canonical
        if number % 9 == 0:
            return EvaluationResult(tuple(genome), {"clean_error": -1.0, "macs": -1.0}, "failed", "diverged")
        if number % 9 == 3:
            raise RuntimeError("out of memory")
        if number % 9 == 6:
            return EvaluationResult(tuple(genome), {"clean_error": math.nan, "macs": -1.0})
        found: EvaluationResult = table(genome, seed)
        return found

    problem = NASProblem(tiny_space, evaluate)
    found = minimize(problem, ALGORITHMS[name](), ("n_gen", 8), seed=1)
    good = [result for result in problem.results.values() if result.ok]
    assert set(calls.values()) == {1}
    assert "KeyError" not in " ".join(result.reason for result in problem.results.values())
    assert len(problem.results) > len(good) > 0
    measured = {tuple(minimised(result.objectives, OBJECTIVES, ())) for result in good}
    front = front_of(found)
    assert len(front) > 0
    assert {tuple(row) for row in front.tolist()} <= measured
    assert non_dominated(front).tolist() == list(range(len(front)))
    assert all(problem.results[arch_id(tiny_space.canonical(np.rint(x)))].ok for x in np.atleast_2d(found.X))


def test_nothing_but_failures_gives_no_front(tiny_space: Space) -> None:
    def evaluate(genome: Genome, seed: int) -> EvaluationResult:
        raise RuntimeError("out of memory")

    problem = NASProblem(tiny_space, evaluate)
    assert minimize(problem, NSGA2(pop_size=6), ("n_gen", 3), seed=1).F is None
    assert {result.reason for result in problem.results.values()} == {"RuntimeError: out of memory"}


@settings(max_examples=25)
@given(st.data())
def test_no_failure_reaches_pymoos_front(tiny_space: Any, data: st.DataObject) -> None:
    """Nor does it change the hypervolume, whatever numbers it pretends to have."""
    number = st.sampled_from([0.0, 1.0, 2.0, -3.0, math.nan, math.inf, -math.inf, 1e300])
    result = st.builds(
        lambda a, b, status: EvaluationResult((0,), {"clean_error": a, "macs": b}, status),
        number,
        number,
        st.sampled_from(["ok", "ok", "failed"]),
    )
    fates = data.draw(st.lists(result | st.sampled_from([None, RuntimeError()]), min_size=1, max_size=6))

    def evaluate(genome: Genome, seed: int) -> Any:
        fate = fates[int(genome @ [1, 3, 9, 27]) % len(fates)]
        if isinstance(fate, Exception):
            raise fate
        return fate

    problem = NASProblem(tiny_space, evaluate)
    found = minimize(problem, NSGA2(pop_size=6), ("n_gen", 3), seed=data.draw(st.integers(0, 9)))
    good = [r.objectives for r in problem.results.values() if r.ok]
    assert np.isfinite([list(values.values()) for values in good]).all()
    measured = {(values["clean_error"], values["macs"]) for values in good}
    front = front_of(found)
    assert {tuple(row) for row in front.tolist()} <= measured
    assert (len(front) > 0) == (len(good) > 0)
    every = [minimised(r.objectives, OBJECTIVES, ()) if r.ok else [math.nan] * 2 for r in problem.results.values()]
    assert hypervolume(every, (5, 5)) == hypervolume([row for row in every if row[0] == row[0]], (5, 5))
