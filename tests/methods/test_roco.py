"""RoCo-NAS: what its first population holds, its spaces, recipes and objectives, and the adversarial set of a run."""

import runpy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import FLAGS, ROCO, SPACE, config, contents, journal, rows, run

from evonas.adversarial_sets import SET_PRESETS, AdversarialSet, BuildPlan, SetSettings, load_adversarial_set
from evonas.adversarial_sets import save_adversarial_set as save
from evonas.cli import main
from evonas.data import Dataset, load_data
from evonas.errors import ConfigurationError, EvonasError, RunMismatchError
from evonas.executors import ProcessExecutor
from evonas.methods.roco import OBJECTIVES_OF_ROCO, RocoOptions, compose, first_population
from evonas.methods.roco_retraining import RetrainOptions
from evonas.methods.stored import open_run
from evonas.objectives import CertifiedAccuracy
from evonas.runs import AttackOptions, CertifyOptions, Run
from evonas.runs.needs import refuse_unused
from evonas.runs.options import from_json
from evonas.search import EvolutionConfig
from evonas.spaces import DartsSpace, NasBench201Space, PhaseSpace, ShuffleSpace
from evonas.training import RECIPES

pytestmark = [pytest.mark.lengthy, pytest.mark.usefixtures("no_pictures")]

MakeSet = Callable[[Dataset, Mapping[str, Sequence[int]]], AdversarialSet]
SCRIPT = Path(__file__).parents[2] / "experiments" / "roco_cifar10.py"


def genomes(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    return [" ".join(map(str, line["genome"])) for line in lines]


def first_of(options: RocoOptions) -> list[str]:
    """What the first population is to hold, without a run."""
    with Run.open("roco-nas", options) as begun:
        return [" ".join(map(str, genome)) for genome in first_population(begun, options, SPACE)]


class TestOnTheCommandLine:
    WORDS = (
        *("--train-limit", "150", "--val-limit", "50", "--channels", "2", "--phases", "2", "--nodes", "3"),
        *("--epochs", "1", "--batch-size", "5", "--lr", "0.05", "--population", "4", "--generations", "2"),
        *("--objectives", "clean_error,macs", "--designs", "", "--white-box-images", "0", *FLAGS),
    )

    def test_the_command_gives_the_run_of_the_function(self, roco_run: Path, tmp_path: Path) -> None:
        assert main(["roco", *self.WORDS, "--out", str(tmp_path / "run")]) == 0
        assert journal(tmp_path / "run") == journal(roco_run)

    def test_the_script_gives_the_run_of_the_command(
        self, roco_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.argv", [str(SCRIPT), *self.WORDS, "--out", str(tmp_path / "run")])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        assert ended.value.code == 0
        assert journal(tmp_path / "run") == journal(roco_run)
        mine, other = config(tmp_path / "run"), config(roco_run)
        for found in (mine, other):
            for name in ("out", "quick_lr", "quick_batch_size"):  # two of the preset's, that no objective here uses
                found["settings"][name] = None
        assert mine == other  # either continues the other's run


class TestFirstPopulation:
    def test_an_earlier_run_gives_its_best(self, roco_run: Path, tmp_path: Path) -> None:
        best = [row["genome"] for row in rows(roco_run / "population.csv")]
        heir = replace(ROCO, out=tmp_path / "heir", init_from=str(roco_run), seed=9)
        heir = replace(heir, search=replace(ROCO.search, generations=0))
        run(heir)
        assert genomes(journal(tmp_path / "heir")[1:]) == best[:4]
        front = [row["genome"] for row in rows(roco_run / "front.csv")]
        assert first_of(replace(heir, init_from=str(roco_run / "front.csv"), out=tmp_path / "new")) == front[:4]

    def test_the_heir_continues_when_its_ancestor_is_gone(self, roco_run: Path, tmp_path: Path) -> None:
        table = tmp_path / "first.csv"
        table.write_text((roco_run / "front.csv").read_text())
        heir = replace(ROCO, out=tmp_path / "heir", init_from=str(table))
        heir = replace(heir, search=replace(ROCO.search, population=2, generations=0))
        run(heir)
        before = journal(tmp_path / "heir")
        table.unlink()
        run(heir)
        assert journal(tmp_path / "heir") == before

    def test_designs_come_first_and_each_once(self, roco_run: Path, tmp_path: Path) -> None:
        designs = {name: SPACE.canonical(genome) for name, genome in SPACE.designs().items()}
        named = replace(ROCO, designs=("chain", "pair", "chain"), init_from=str(roco_run), out=tmp_path / "new")
        found = first_of(named)
        assert found[:2] == [" ".join(map(str, designs[name])) for name in ("chain", "pair")]
        assert len(found) == len(set(found)) == 4

    def test_genomes_of_another_space_are_refused(self, roco_run: Path, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="expected a genome of shape"):
            run(replace(ROCO, nodes=4, out=tmp_path / "other", init_from=str(roco_run)))
        assert not (tmp_path / "other").exists()

    def test_nobody_starts_from_a_run_without_networks(self, tmp_path: Path) -> None:
        empty = tmp_path / "front.csv"
        empty.write_text("arch_id,status,genome\n")
        with pytest.raises(ConfigurationError, match="expected genomes to start from"):
            run(replace(ROCO, out=tmp_path / "heir", init_from=str(empty)))

    def test_another_first_population_is_another_run(self, copied_run: Path) -> None:
        with pytest.raises(RunMismatchError, match=r"search\.first"):
            run(replace(ROCO, out=copied_run, designs=("pair",)))


class TestSpacesAndRecipes:
    def test_spaces_by_their_names(self) -> None:
        assert ROCO.make_space(32) == SPACE
        paper = replace(ROCO, preset="paper", space="darts")
        assert paper.make_space(28) == DartsSpace(channels=2, image_size=28)
        assert replace(ROCO, space="darts").make_space(28) == DartsSpace(channels=2, layers=3, image_size=28)
        cells = replace(ROCO, space="nasbench201", cells=1).make_space(28)
        assert cells == NasBench201Space(channels=2, cells=1, image_size=28)
        assert replace(ROCO, space="nasbench201").make_space(32) == NasBench201Space(channels=2, cells=3)
        assert replace(ROCO, preset="paper", space="nasbench201").make_space(32) == NasBench201Space(channels=2)
        assert replace(ROCO, space="shuffle").make_space(28) == ShuffleSpace(image_size=28)
        nsganet = replace(ROCO, operators="nsganet", mutation_rate=0.5).make_space(32)
        assert nsganet == PhaseSpace(2, 3, 2, operators="nsganet", mutation_rate=0.5)

    @pytest.mark.lengthy
    def test_cells_of_nasbench201_are_searched_and_found_again(self, tmp_path: Path) -> None:
        search = replace(ROCO.search, population=2, generations=1)
        out = tmp_path / "run"
        run(replace(ROCO, out=out, space="nasbench201", cells=1, search=search))
        found = open_run(out)
        assert [*found.population["status"]] == ["ok"] * 4
        assert found.space == NasBench201Space(channels=2, cells=1)
        found.verify("best")
        assert not found.load("best").training
        assert found.draw("best").suffix == ".svg"

    def test_more_phases_than_the_image_has_room_for(self, tmp_path: Path) -> None:
        search = replace(ROCO.search, population=2, generations=0)
        run(replace(ROCO, out=tmp_path / "run", phases=7, search=search))
        assert [row["status"] for row in rows(tmp_path / "run" / "population.csv")] == ["ok"] * 2

    def test_another_recipe_trains_otherwise_and_is_a_part_of_the_identity(
        self, roco_run: Path, tmp_path: Path
    ) -> None:
        search = replace(ROCO.search, population=2, generations=0)
        run(replace(ROCO, recipe="fast_adversarial", search=search, out=tmp_path / "run"))
        identity = config(tmp_path / "run")["identity"]
        assert identity["training"]["recipe"]["name"] == "fast_adversarial"
        mine, standard = journal(tmp_path / "run")[1:], journal(roco_run)[1:3]
        assert genomes(mine) == genomes(standard)
        errors = [[line["objectives"]["clean_error"] for line in lines] for lines in (mine, standard)]
        assert errors[0] != errors[1]

    def test_the_radius_of_a_robust_recipe_is_a_flag(self) -> None:
        """Steps that are not told the radius grow with it; a recipe without an attack has none."""
        for name, step in (("trades", 0.007 * 0.0155 / 0.031), ("trades_yopo", 0.007 * 0.0155 / (8 / 255))):
            recipe: Any = replace(ROCO, recipe=name, recipe_epsilon=0.0155).make_recipe()
            assert (recipe.name, recipe.epsilon, recipe.step) == (name, 0.0155, pytest.approx(step, rel=1e-12))
            assert replace(ROCO, recipe=name).make_recipe() == RECIPES[name]
        fast: Any = replace(ROCO, recipe="fast_adversarial", recipe_epsilon=0.1).make_recipe()
        assert (fast.epsilon, fast.step) == (0.1, None)
        with pytest.raises(ConfigurationError, match=r"8.0: it is on the \[0, 1\] scale; 8/255\?"):
            replace(ROCO, recipe="trades", recipe_epsilon=8.0)
        with pytest.raises(ConfigurationError, match="--recipe-epsilon changes nothing without a robust recipe"):
            refuse_unused(replace(ROCO, recipe_epsilon=0.1), ROCO)

    @pytest.mark.slow
    def test_every_recipe_trains_candidates_and_the_front_again(
        self, digits_set: AdversarialSet, tmp_path: Path
    ) -> None:
        """But the one for networks with an auxiliary head, which is refused in a line."""
        search = EvolutionConfig(population=2, generations=0, objectives=("clean_error", "macs"))
        again = RetrainOptions(retrain=True, top=1, retrain_channels=2, retrain_epochs=1, suite=("fgsm",))
        save(tmp_path / "set", digits_set)
        found = set()
        for name in RECIPES:
            out = tmp_path / name
            usual = replace(
                ROCO, adversarial_set=str(tmp_path / "set.safetensors"), search=search, after=again, out=out
            )
            if name == "cells":
                with pytest.raises(
                    ConfigurationError, match="a recipe for networks without an auxiliary head, got cells"
                ):
                    replace(usual, recipe=name)
                continue
            run(replace(usual, recipe=name))
            recipe = config(out)["identity"]["training"]["recipe"]
            assert name == (recipe if name == "standard" else recipe["name"])
            assert [row["status"] for row in rows(out / "population.csv")] == ["ok"] * 2
            (retrained,) = (row for row in rows(out / "retrained" / "retrained.csv"))
            assert retrained["status"] == "ok"
            weights = load_file(next((out / "retrained").glob("*.safetensors")))
            found.add(hash(tuple(tensor.numpy().tobytes() for tensor in weights.values())))
        assert len(found) == len(RECIPES) - 1  # each trains in a way of its own


class TestWhiteBox:
    def test_a_column_beside_what_is_searched(self, tmp_path: Path) -> None:
        """Other columns and the path of the search stay; the folder of a run with it is another run's without."""
        options = replace(ROCO, search=replace(ROCO.search, generations=0))
        run(replace(options, out=tmp_path / "plain"))
        said = run(replace(options, white_box_images=20, out=tmp_path / "run"))
        assert "rank correlation with clean_error over all networks: pgd_error" in said
        found = rows(tmp_path / "run" / "population.csv")
        assert all(float(row["pgd_error"]) * 20 % 1 == 0 for row in found)
        assert any(float(row["pgd_error"]) > float(row["clean_error"]) for row in found)
        without = [{name: value for name, value in row.items() if name != "pgd_error"} for row in found]
        assert without == rows(tmp_path / "plain" / "population.csv")
        measured = config(tmp_path / "run")["measured"]["pgd_error"]
        assert (measured["threat"], measured["attack"], measured["images"]) == ("white-box", "pgd", 20)
        correlation = config(tmp_path / "run")["results"]["rank_correlation_with_clean_error"]["pgd_error"]
        last = rows(tmp_path / "run" / "history.csv")[-1]
        assert float(last["rank_correlation_pgd_error"]) == correlation
        for images in (0, 10):
            with pytest.raises(RunMismatchError, match=r"pgd_error"):
                run(replace(options, white_box_images=images, out=tmp_path / "run"))
        with pytest.raises(RunMismatchError, match=r"pgd_error is nothing there"):
            run(replace(options, white_box_images=20, out=tmp_path / "plain"))

    def test_it_is_not_measured_twice(self) -> None:
        search = replace(ROCO.search, objectives=("clean_error", "pgd_error"))
        with pytest.raises(ConfigurationError, match="--white-box-images changes nothing without"):
            refuse_unused(replace(ROCO, search=search, white_box_images=20), RocoOptions())
        with pytest.raises(ConfigurationError, match="expected white_box_images >= 0, got -1"):
            replace(ROCO, white_box_images=-1)


# Adversarial sets.


SMALL = replace(
    ROCO,
    data=replace(ROCO.data, val_limit=None),
    search=EvolutionConfig(population=2, generations=1, objectives=OBJECTIVES_OF_ROCO),
)
QUICK_SET = SetSettings(
    targets=("LeNet",),
    widths=(0.5,),
    target_epochs=(4,),
    target_batch_size=20,
    target_lr=0.02,
    thresholds=(20,),
    attacked_images=20,
    attack_population=10,
    attack_generations=2,
)


@pytest.fixture(scope="module", autouse=True)
def threads() -> Iterator[None]:
    """A build sets the threads of its process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory, digits_set: AdversarialSet) -> RocoOptions:
    """Options of a finished run with a set in a file."""
    folder = tmp_path_factory.mktemp("given")
    save(folder / "mine", digits_set)
    options = replace(SMALL, adversarial_set=str(folder / "mine.safetensors"), out=folder / "run")
    run(options)
    return options


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where sets without a name are kept, with a quick preset that is quicker still."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVONAS_CACHE", str(tmp_path))
    monkeypatch.setitem(SET_PRESETS, "quick", QUICK_SET)
    return tmp_path / "adversarial_sets"


@pytest.fixture
def no_building(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evonas.runs.sets.build_adversarial_set", lambda *arguments: pytest.fail("a set was built"))


def folder_of(options: RocoOptions) -> Path:
    assert options.out is not None
    return options.out


class TestSets:
    def test_the_set_and_its_parts_are_measured(self, given: RocoOptions) -> None:
        table = rows(folder_of(given) / "population.csv")
        names = [f"adversarial_set_error{part}" for part in ("", "_clean", "_L0", "_Linf")]
        assert [name for name in table[0] if name.startswith("adversarial")] == names
        for row in table:
            whole, clean, l0, linf = (float(row[name]) for name in names)
            assert 0 <= whole <= 1
            assert (whole * 12).is_integer()  # twelve images, eight in each part, four in both
            assert (clean * 12).is_integer()
            assert max(l0, linf) * 8 <= whole * 12 <= (l0 + linf) * 8

    def test_the_configuration_says_what_was_measured(self, given: RocoOptions, digits_set: AdversarialSet) -> None:
        found = config(folder_of(given))
        assert found["identity"]["objectives"]["adversarial_set_error"] == {
            "adversarial_set": {"fingerprint": digits_set.fingerprint},
            "batch_size": 500,
            "clean_sources": {"fingerprint": load_data("digits").adversarial.take(np.arange(12)).fingerprint},
        }
        assert found["measured"]["adversarial_set_error_clean"]["threat"] == "none"
        assert found["measured"]["adversarial_set_error_L0"] == {
            "about": "transferred: precomputed set of 8 images",
            "threat": "transfer",
            "set": "by-hand",
            "fingerprint": digits_set.fingerprint,
            "images": 8,
            "targets": ["LeNet"],
        }
        assert list(found["measured"]) == found["columns"]
        assert found["reference_point"]["adversarial_set_error"] == 1.0
        assert any("by-hand, 12 images, found at" in note for note in found["notes"])
        assert from_json(RocoOptions, found["settings"]) == given

    def test_show_verify_and_export(self, given: RocoOptions, capsys: pytest.CaptureFixture[str]) -> None:
        folder = folder_of(given)
        assert main(["show", str(folder)]) == 0
        assert "adversarial_set_error: transferred: precomputed set of 12 images" in capsys.readouterr().out
        assert main(["verify", str(folder), "--retrain", "best"]) == 0
        said = capsys.readouterr().out
        assert "adversarial_set_error: recorded" in said
        assert "DIFFERENT" not in said
        before = (folder / "population.csv").read_bytes()
        assert main(["export", str(folder)]) == 0
        assert (folder / "population.csv").read_bytes() == before

    def test_another_set_in_the_same_folder_is_refused(
        self, given: RocoOptions, make_set: MakeSet, tmp_path: Path, digits_set: AdversarialSet
    ) -> None:
        before = contents(folder_of(given))
        save(tmp_path / "other", make_set(load_data("digits"), {"L0": range(9)}))
        with pytest.raises(RunMismatchError) as refused:
            run(replace(given, adversarial_set=str(tmp_path / "other")))
        assert "objectives.adversarial_set_error.adversarial_set.fingerprint" in str(refused.value)
        assert contents(folder_of(given)) == before
        save(tmp_path / "copy", digits_set)  # the same images under another name are the same set
        run(replace(given, adversarial_set=str(tmp_path / "copy")))
        assert contents(folder_of(given))["journal.jsonl"] == before["journal.jsonl"]

    @pytest.mark.usefixtures("no_building")
    def test_a_run_goes_on_with_its_set_however_often_it_is_not_named(
        self, digits_set: AdversarialSet, tmp_path: Path
    ) -> None:
        file, out = str(tmp_path / "mine.safetensors"), tmp_path / "run"
        save(tmp_path / "mine", digits_set)
        options = replace(SMALL, search=replace(SMALL.search, generations=0), out=out)
        run(replace(options, adversarial_set=file))
        before = journal(out)
        for _ in range(2):
            run(options)
            assert config(out)["settings"]["adversarial_set"] == file
            assert journal(out) == before

    def test_the_second_run_finds_the_set_that_the_first_one_built(self, sets: Path, tmp_path: Path) -> None:
        options = replace(SMALL, search=replace(SMALL.search, generations=0))
        run(replace(options, out=tmp_path / "first"))
        (file,) = sets.glob("*.safetensors")
        built = (file.read_bytes(), file.stat().st_mtime_ns)
        run(replace(options, out=tmp_path / "second", seed=1, data=replace(options.data, split_seed=0)))
        assert (file.read_bytes(), file.stat().st_mtime_ns) == built
        fingerprint = load_adversarial_set(file).fingerprint
        for name in ("first", "second"):
            measured = config(tmp_path / name)["measured"]["adversarial_set_error"]
            assert measured["fingerprint"] == fingerprint
        before = journal(tmp_path / "first")
        run(replace(options, out=tmp_path / "first"))
        assert journal(tmp_path / "first") == before
        assert main(["verify", str(tmp_path / "first")]) == 0
        file.unlink()
        assert main(["verify", str(tmp_path / "first")]) == 2  # it looks, and builds nothing
        assert not file.exists()

    def test_another_seed_is_another_split_and_another_set(
        self, digits_set: AdversarialSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without --split-seed; with it all runs share one. Neither decides anything else about the set."""
        plans: list[BuildPlan] = []

        def find(plan: BuildPlan, *arguments: Any, **more: Any) -> tuple[AdversarialSet, str]:
            plans.append(plan)
            return digits_set, "found here"

        monkeypatch.setattr("evonas.runs.run.find_or_build", find)

        def used(seed: int, split_seed: int | None) -> AdversarialSet:
            data = replace(SMALL.data, split_seed=split_seed)
            options = replace(SMALL, seed=seed, data=data, out=tmp_path / "run")
            with Run.open("roco-nas", options) as begun:
                return compose(begun, options)[2][2].adversarial_set  # type: ignore[attr-defined, no-any-return]

        assert used(0, None) is used(3, 0) is digits_set
        with pytest.raises(ConfigurationError, match="give --split-seed 0"):
            used(3, None)
        first, shared, other = plans
        assert first.name == shared.name != other.name
        assert (first.split_seed, shared.split_seed, other.split_seed) == (0, 0, 3)
        assert first.settings == SET_PRESETS["quick"]
        assert first.data.adversarial.fingerprint == shared.data.adversarial.fingerprint

    def test_a_set_is_built_on_the_slots_of_the_run_and_its_jobs_have_no_deadline(
        self, digits_set: AdversarialSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made: list[Any] = []

        def find(plan: BuildPlan, path: Path, screen: Any, build: bool, executor: Any) -> tuple[AdversarialSet, str]:
            made.append(executor())
            return digits_set, "found here"

        monkeypatch.setattr("evonas.runs.run.find_or_build", find)
        execution = replace(SMALL.execution, executor="process", workers=3, timeout=5.0)
        options = replace(SMALL, execution=execution, out=tmp_path / "run")
        with Run.open("roco-nas", options) as begun:
            compose(begun, options)
            assert begun.executor()._timeout == 5.0  # type: ignore[attr-defined]
        (executor,) = made
        assert isinstance(executor, ProcessExecutor)
        assert (executor._workers.slots, executor._timeout) == (3, None)

    @pytest.mark.usefixtures("no_building")
    def test_a_baseline_needs_no_set(self, sets: Path, tmp_path: Path) -> None:
        """The baseline is RoCo-NAS without its third objective."""
        assert RocoOptions().search.objectives == OBJECTIVES_OF_ROCO
        assert OBJECTIVES_OF_ROCO == ("clean_error", "macs", "adversarial_set_error")
        with Run.open("roco-nas", replace(ROCO, out=tmp_path / "run")) as begun:
            compose(begun, ROCO)
        assert not sets.exists()

    def test_a_set_of_another_split_is_refused_with_the_flag_to_give(self, given: RocoOptions, tmp_path: Path) -> None:
        """The set was made with split seed 0, this run splits with its own seed 1."""
        other = replace(given, out=tmp_path / "run", seed=1)
        with pytest.raises(ConfigurationError, match="give --split-seed 0"):
            run(other)
        assert not (tmp_path / "run").exists()
        mended = replace(other, data=replace(other.data, split_seed=0))
        with Run.open("roco-nas", mended) as begun:
            compose(begun, mended)

    @pytest.mark.parametrize("damage", ["cut", "foreign", "missing"])
    def test_a_set_that_cannot_be_read_is_one_line_and_exit_code_2(
        self, damage: str, given: RocoOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        whole = Path(given.adversarial_set).read_bytes()
        file = tmp_path / "set.safetensors"
        if damage != "missing":
            file.write_bytes(whole[:-3] if damage == "cut" else b"PK" + whole)
        words = ["roco", "--data", "digits", "--adversarial-set", str(file), "--out", str(tmp_path / "run")]
        assert main(words) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: expected an adversarial set in {file}: ")
        assert error.count("\n") == 1
        assert not (tmp_path / "run").exists()

    @pytest.mark.usefixtures("no_building", "sets")
    @pytest.mark.parametrize(
        "change",
        [
            {"init_from": "/no/such/run"},
            {"designs": ("tree",)},
            {"search": replace(SMALL.search, objectives=(*OBJECTIVES_OF_ROCO, "nothing"))},
            {"recipe": "nothing"},
            {"space": "nothing"},
            {"data": replace(SMALL.data, train_limit=3)},
        ],
        ids=lambda change: "-".join(change),
    )
    def test_what_is_wrong_is_told_before_a_set_is_built(self, change: dict[str, Any], tmp_path: Path) -> None:
        with pytest.raises(EvonasError, match=r"unknown|could not|expected"):
            run(replace(SMALL, out=tmp_path / "run", **change))
        assert not (tmp_path / "run").exists()

    @pytest.mark.usefixtures("no_building", "sets")
    def test_a_run_that_is_refused_builds_no_set(self, roco_run: Path) -> None:
        """The folder belongs to a run of two objectives."""
        with pytest.raises(RunMismatchError, match=r"objectives is \['clean_error', 'macs'\] there"):
            run(replace(ROCO, out=roco_run, search=replace(ROCO.search, objectives=OBJECTIVES_OF_ROCO)))


# Objectives with options of their own.


def test_a_run_under_attack_keeps_the_attacks_numbers(tmp_path: Path) -> None:
    search = EvolutionConfig(population=2, generations=0, objectives=("pgd_error", "fgsm_error"))
    attacks = AttackOptions(attack_epsilon=0.05, attack_steps=2, attack_images=20)
    options = replace(ROCO, search=search, attacks=attacks, out=tmp_path / "run")
    run(options)
    found = config(tmp_path / "run")
    pgd, fgsm = found["measured"]["pgd_error"], found["measured"]["fgsm_error"]
    assert (pgd["threat"], pgd["epsilon"], pgd["steps"], pgd["images"]) == ("white-box", 0.05, 2, 20)
    assert (fgsm["about"], fgsm["epsilon"]) == ("white-box: FGSM, linf 0.05", 0.05)
    for row in rows(tmp_path / "run" / "population.csv"):
        assert (float(row["pgd_error"]) * 20).is_integer()
    assert from_json(RocoOptions, found["settings"]) == options
    with pytest.raises(RunMismatchError, match=r"objectives\.pgd_error\.attack\.steps is 2 there, 3 here"):
        run(replace(options, attacks=replace(attacks, attack_steps=3)))
    assert main(["verify", str(tmp_path / "run"), "--retrain", "best"]) == 0


def test_a_run_with_quick_robust_training_and_seconds_is_verified_but_for_these(tmp_path: Path) -> None:
    search = EvolutionConfig(population=2, generations=0, objectives=("quick_robust_error", "macs"))
    attacks = AttackOptions(quick_epochs=1, quick_batch_size=10, quick_lr=0.05, quick_images=20)
    options = replace(ROCO, search=search, attacks=attacks, objective_seconds=True, out=tmp_path / "run")
    run(options)
    found = config(tmp_path / "run")
    assert any("--epochs 1 makes that short" in note for note in found["notes"])
    quick = found["measured"]["quick_robust_pgd_error"]
    assert (quick["attack"], quick["training"]["epochs"], quick["training"]["cyclic"]) == ("pgd", 1, True)
    for row in rows(tmp_path / "run" / "population.csv"):
        assert (float(row["quick_robust_error"]) * 20).is_integer()
        assert float(row["quick_robust_error_seconds"]) > 0
    with pytest.raises(RunMismatchError, match=r"objectives\.quick_robust_error\.training\.epochs is 1 there, 2 here"):
        run(replace(options, attacks=replace(attacks, quick_epochs=2)))
    assert main(["verify", str(tmp_path / "run"), "--retrain", "best"]) == 0


def test_a_run_maximises_the_certified_radius(tmp_path: Path) -> None:
    options = replace(
        ROCO,
        phases=1,
        nodes=2,
        data=replace(ROCO.data, train_limit=40, val_limit=20),
        search=EvolutionConfig(
            population=3, generations=1, objectives=("clean_error", "jacobian_norm", "certified_radius")
        ),
        certify=CertifyOptions(jacobian_images=8, certified_images=4),
        out=tmp_path / "run",
    )
    run(options)
    found = config(tmp_path / "run")
    assert found["identity"]["search"]["maximize"] == ["certified_radius"]
    assert found["reference_point"]["certified_radius"] == 0.0
    measured = found["measured"]["certified_radius"]
    assert (measured["images"], measured["norm"], measured["maximize"]) == (4, "linf", True)
    assert from_json(RocoOptions, found["settings"]) == options
    table = rows(tmp_path / "run" / "population.csv")
    assert {row["status"] for row in table} == {"ok"}
    best = max(table, key=lambda row: float(row["certified_radius"]))
    assert best["rank"] == "0"  # nothing dominates the largest radius, unless another has the same
    assert all(float(row["certified_radius"]) >= 0 < float(row["jacobian_norm"]) for row in table)
    with pytest.raises(RunMismatchError, match=r"objectives\.certified_radius\.images is 4 there, 3 here"):
        run(replace(options, certify=replace(options.certify, certified_images=3)))
    lines = (tmp_path / "run" / "journal.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "run" / "journal.jsonl").write_text("".join(lines[:3]))  # two evaluations were finished
    run(options)
    assert rows(tmp_path / "run" / "population.csv") == table


def test_a_run_that_was_begun_without_outward_rounding_goes_on_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(
        ROCO,
        phases=1,
        nodes=2,
        data=replace(ROCO.data, train_limit=40, val_limit=20),
        search=EvolutionConfig(population=3, generations=1, objectives=("clean_error", "certified_accuracy")),
        certify=CertifyOptions(certified_images=4),
        out=tmp_path / "run",
    )
    made = CertifyOptions.objectives

    def of_an_earlier_version(self: CertifyOptions) -> dict[str, Any]:
        found = made(self)
        nearest = CertifiedAccuracy(images=self.certified_images, rounding="nearest")
        return {**found, "certified_accuracy": nearest}

    with monkeypatch.context() as patched:
        patched.setattr(CertifyOptions, "objectives", of_an_earlier_version)
        run(options)
    assert "rounding" not in config(tmp_path / "run")["identity"]["objectives"]["certified_accuracy"]
    before = (tmp_path / "run" / "journal.jsonl").read_bytes()
    assert "certified_accuracy is proven up to rounding errors: this run was begun so" in run(options)
    assert (tmp_path / "run" / "journal.jsonl").read_bytes() == before
    run(replace(options, out=tmp_path / "new"))
    assert config(tmp_path / "new")["identity"]["objectives"]["certified_accuracy"]["rounding"] == "outward"
