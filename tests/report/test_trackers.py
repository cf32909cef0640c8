"""A run as TensorBoard and Optuna show it, read back by these tools themselves."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from tensorboard.plugins.hparams import api_pb2, metadata
from tiny_runs import EVALUATIONS, ROCO, run

from evonas.errors import ConfigurationError
from evonas.report import Searched, require_optuna, write_optuna_journal, write_tensorboard
from evonas.search import Entry
from evonas.types import Curve, EvaluationResult

SEARCHED = Searched(
    "roco-nas", "digits", ("clean_error", "ood_aupr"), ("ood_aupr",), ("clean_error", "ood_aupr"), (1.0, 0.0)
)


def entry(genes: Sequence[int], generation: int, error: float | None, aupr: float = 0.0) -> Entry:
    """A failed evaluation without an error."""
    values = {"clean_error": error, "ood_aupr": aupr, "params": 10, "macs": 20}
    if error is None:
        result = EvaluationResult(tuple(genes), {}, "failed", "it broke", seed=2**62 + 1, seconds=1.5)
    else:
        result = EvaluationResult(tuple(genes), values, seed=2**62 + 1, seconds=2.5)  # type: ignore[arg-type]
    return Entry(result, generation, 0)


ENTRIES = [
    entry((0, 1), 0, 0.5, 0.25),
    entry((1, 1), 0, 0.75, 0.5),
    entry((2, 0), 1, None),
    entry((0, 3), 1, 0.25, 0.125),
]


@pytest.fixture(autouse=True)
def quiet_optuna() -> Iterator[None]:
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(level)


def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder)).Reload()


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events(folder).Scalars(tag)]


def files(folder: Path) -> dict[str, int]:
    """Name -> time at which it was written."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.lengthy
class TestTensorBoard:
    def test_values_of_generations_by_hand(self, tmp_path: Path) -> None:
        """Hypervolumes: 0.5 x 0.25 + 0.25 x 0.25 = 0.1875; then 0.25 x 0.125 more, of 0.25 and 0.125."""
        write_tensorboard(tmp_path, ENTRIES, SEARCHED, 1)
        assert scalars(tmp_path, "search/hypervolume") == [(0, 0.1875), (1, 0.21875)]
        assert scalars(tmp_path, "search/front_size") == [(0, 2.0), (1, 3.0)]
        assert scalars(tmp_path, "search/evaluations") == [(0, 2.0), (1, 4.0)]
        assert scalars(tmp_path, "best/clean_error") == [(0, 0.5), (1, 0.25)]
        assert scalars(tmp_path, "best/ood_aupr") == [(0, 0.5), (1, 0.5)]

    def test_the_front_is_a_picture_of_each_generation(self, tmp_path: Path) -> None:
        write_tensorboard(tmp_path, ENTRIES, SEARCHED, 1)
        pictures = events(tmp_path).Images("front")
        assert [picture.step for picture in pictures] == [0, 1]
        assert all(picture.encoded_image_string.startswith(b"\x89PNG") for picture in pictures)
        assert all(picture.width > 100 and picture.height > 100 for picture in pictures)

    def test_each_evaluation_has_hyperparameters_and_metrics(self, tmp_path: Path) -> None:
        write_tensorboard(tmp_path, ENTRIES, SEARCHED, 1)
        runs = EventMultiplexer().AddRunsFromDirectory(str(tmp_path)).Reload()
        assert set(runs.Runs()) == {".", *(f"evaluations/{each.key}" for each in ENTRIES)}
        for each in ENTRIES:
            name = f"evaluations/{each.key}"
            contents = runs.GetAccumulator(name).summary_metadata
            start = metadata.parse_session_start_info_plugin_data(
                contents[metadata.SESSION_START_INFO_TAG].plugin_data.content
            )
            assert [start.hparams[f"gene_{i:02d}"].number_value for i in (0, 1)] == [*each.result.genome]
            assert start.hparams["arch_id"].string_value == each.key
            end = metadata.parse_session_end_info_plugin_data(
                contents[metadata.SESSION_END_INFO_TAG].plugin_data.content
            )
            ok = each.result.ok
            assert end.status == (api_pb2.STATUS_SUCCESS if ok else api_pb2.STATUS_FAILURE)
            found = {tag: runs.Scalars(name, tag)[0].value for tag in runs.GetAccumulator(name).Tags()["scalars"]}
            assert found == each.result.objectives
            known = metadata.parse_experiment_plugin_data(contents[metadata.EXPERIMENT_TAG].plugin_data.content)
            assert [info.name.tag for info in known.metric_infos] == ["clean_error", "ood_aupr", "params", "macs"]

    def test_what_is_there_is_left_alone_and_nothing_is_doubled(self, tmp_path: Path) -> None:
        write_tensorboard(tmp_path, ENTRIES[:2], SEARCHED, 0)
        before = files(tmp_path)
        write_tensorboard(tmp_path, ENTRIES, SEARCHED, 1)
        after = files(tmp_path)
        assert before.items() <= after.items()
        write_tensorboard(tmp_path, ENTRIES, SEARCHED, 1)
        assert files(tmp_path) == after
        assert [step for step, _ in scalars(tmp_path, "search/hypervolume")] == [0, 1]

    def test_a_generation_that_is_not_finished_is_not_written(self, tmp_path: Path) -> None:
        write_tensorboard(tmp_path, ENTRIES[:3], SEARCHED, 0)
        assert scalars(tmp_path, "search/evaluations") == [(0, 2.0)]
        assert len(list((tmp_path / "evaluations").iterdir())) == 2

    def test_killed_anywhere_and_continued_it_shows_the_same(self, tmp_path: Path) -> None:
        """Files that a killed process did not write, or all of them, come back from the journal."""
        write_tensorboard(tmp_path / "whole", ENTRIES, SEARCHED, 1)
        expected = files(tmp_path / "whole").keys()
        for number, gone in enumerate(expected):
            folder = tmp_path / str(number)
            shutil.copytree(tmp_path / "whole", folder)
            (folder / gone).unlink()
            write_tensorboard(folder, ENTRIES, SEARCHED, 1)
            assert files(folder).keys() == expected
            for tag in ("search/hypervolume", "best/clean_error"):
                assert scalars(folder, tag) == scalars(tmp_path / "whole", tag)

    def test_an_evaluation_that_is_tried_again_is_shown_anew(self, tmp_path: Path) -> None:
        write_tensorboard(tmp_path, ENTRIES, SEARCHED, 1)
        again = [*ENTRIES[:2], entry((2, 0), 1, 0.125, 0.75), ENTRIES[3]]
        write_tensorboard(tmp_path, again, SEARCHED, 1)
        assert scalars(tmp_path, "best/clean_error") == [(0, 0.5), (1, 0.125)]
        assert scalars(tmp_path / "evaluations" / again[2].key, "clean_error") == [(1, 0.125)]


@pytest.mark.lengthy
def test_a_search_is_tracked_and_adding_it_later_shows_the_same(tmp_path: Path) -> None:
    """No part of the identity: a run that was begun without it goes on with it."""
    tracked = replace(ROCO, out=tmp_path / "a", track="tensorboard")
    assert "tensorboard --logdir" in run(tracked)
    run(replace(ROCO, out=tmp_path / "b"))
    assert not (tmp_path / "b" / "tensorboard").exists()
    run(replace(tracked, out=tmp_path / "b"))
    for folder in (tmp_path / "a", tmp_path / "b"):
        assert [step for step, _ in scalars(folder / "tensorboard", "search/hypervolume")] == [0, 1, 2]
        assert len(list((folder / "tensorboard" / "evaluations").iterdir())) == EVALUATIONS
    assert files(tmp_path / "a" / "tensorboard").keys() == files(tmp_path / "b" / "tensorboard").keys()


def test_a_missing_library_is_named_before_anything_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"expected tensorboard for --track .* 'evonas\[track\]'"):
        run(replace(ROCO, out=tmp_path / "a", track="tensorboard"))
    assert not (tmp_path / "a").exists()
    with pytest.raises(ConfigurationError, match=r"expected optuna for --optuna, .* 'evonas\[track\]'"):
        require_optuna()


class TestOptuna:
    def study(self, path: Path) -> Any:
        return optuna.load_study(study_name="roco", storage=JournalStorage(JournalFileBackend(str(path))))

    def test_one_trial_for_each_evaluation(self, tmp_path: Path) -> None:
        write_optuna_journal(tmp_path / "a.log", "roco", ENTRIES, SEARCHED, np.array([2, 3]), 1e9)
        assert [path.name for path in tmp_path.iterdir()] == ["a.log"]
        study = self.study(tmp_path / "a.log")
        assert [each.name for each in study.directions] == ["MINIMIZE", "MAXIMIZE"]
        assert study.metric_names == ["clean_error", "ood_aupr"]
        assert study.user_attrs == {"method": "roco-nas", "data": "digits"}
        assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE"]
        first, failed = study.trials[0], study.trials[2]
        assert (first.params, first.values) == ({"gene_00": 0, "gene_01": 1}, [0.5, 0.25])
        assert [(each.low, each.high) for each in first.distributions.values()] == [(0, 2), (0, 3)]
        about = {"arch_id": ENTRIES[0].key, "generation": 0, "seed": str(2**62 + 1), "params": 10, "macs": 20}
        assert first.user_attrs == {**about, "train_seconds": 2.5}
        assert (first.duration.total_seconds(), first.datetime_start.timestamp()) == (2.5, 1e9)
        assert (failed.values, failed.user_attrs["reason"]) == (None, "it broke")

    def test_a_stopped_evaluation_is_a_pruned_trial(self, tmp_path: Path) -> None:
        curve = Curve(4, ((1, {"clean_error": 0.9}),), 1)
        stopped = EvaluationResult((1, 2), {"params": 10}, "stopped", "stopped after 1 of 4 epochs", curve=curve)
        write_optuna_journal(tmp_path / "a.log", "roco", [*ENTRIES, Entry(stopped, 1, 4)], SEARCHED, None, 1e9)
        trial = self.study(tmp_path / "a.log").trials[-1]
        assert (trial.state.name, trial.values) == ("PRUNED", None)
        assert trial.user_attrs["reason"] == "stopped after 1 of 4 epochs"

    def test_its_best_trials_are_the_front(self, tmp_path: Path) -> None:
        write_optuna_journal(tmp_path / "a.log", "roco", ENTRIES, SEARCHED, np.array([2, 3]), 1e9)
        best = {trial.user_attrs["arch_id"] for trial in self.study(tmp_path / "a.log").best_trials}
        assert best == {ENTRIES[index].key for index in (0, 1, 3)}

    def test_genes_of_an_unknown_space_reach_to_the_largest_that_occur(self, tmp_path: Path) -> None:
        write_optuna_journal(tmp_path / "a.log", "roco", ENTRIES, SEARCHED, None, 1e9)
        trial = self.study(tmp_path / "a.log").trials[0]
        assert [each.high for each in trial.distributions.values()] == [2, 3]

    def test_a_file_that_is_there_stays(self, tmp_path: Path) -> None:
        (tmp_path / "a.log").write_text("mine")
        with pytest.raises(ConfigurationError, match="expected a new file for --optuna"):
            write_optuna_journal(tmp_path / "a.log", "roco", ENTRIES, SEARCHED, None, 1e9)
        assert (tmp_path / "a.log").read_text() == "mine"
