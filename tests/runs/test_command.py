"""Command lines: presets, flags, errors with one line and exit code 2."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from evonas.cli import main
from evonas.commands import COMMANDS
from evonas.errors import ConfigurationError, StorageError
from evonas.methods import METHODS, method_module
from evonas.methods.roco import PRESETS, RocoOptions
from evonas.runs import CertifyOptions, command, guarded, parse
from evonas.runs.interrupt import Interrupted


class TestPresets:
    def test_the_paper_preset_is_table_ii(self) -> None:
        paper = parse(PRESETS, ["--preset", "paper"])
        assert (paper.phases, paper.nodes, paper.channels) == (3, 6, 16)
        assert (paper.search.population, paper.search.generations, paper.search.evaluations) == (40, 20, 840)
        assert (paper.training.epochs, paper.training.batch_size, paper.training.lr) == (25, 128, 0.025)
        assert (paper.data.train_limit, paper.data.val_limit, paper.operators, paper.designs) == (
            None,
            None,
            "roco",
            (),
        )
        assert paper.search.objectives == ("clean_error", "macs", "adversarial_set_error")  # III-D
        assert paper.adversarial_set == "auto"

    def test_no_flag_is_the_quick_preset(self) -> None:
        assert parse(PRESETS, []) == PRESETS["quick"]

    def test_flags_override_the_preset_in_any_order(self) -> None:
        for words in (["--epochs", "3", "--preset", "paper"], ["--preset=paper", "--epochs", "3"]):
            options = parse(PRESETS, words)
            assert (options.preset, options.training.epochs, options.search.population) == ("paper", 3, 40)

    def test_the_last_preset_counts(self) -> None:
        assert parse(PRESETS, ["--preset", "paper", "--preset", "quick"]) == PRESETS["quick"]
        assert parse(PRESETS, ["--preset=quick", "--preset=paper"]) == PRESETS["paper"]

    @pytest.mark.lengthy
    @pytest.mark.parametrize("name", METHODS)
    def test_every_method_has_flags_for_its_presets(self, name: str) -> None:
        presets = method_module(name).PRESETS
        for preset, options in presets.items():
            assert parse(presets, ["--preset", preset, "--seed", "3"]).seed == 3
            assert parse(presets, ["--preset", preset]) == options


class TestFlags:
    def test_names_are_given_with_commas(self) -> None:
        options = parse(PRESETS, ["--objectives", "clean_error,params", "--designs", "chain,dense"])
        assert options.search.objectives == ("clean_error", "params")
        assert options.designs == ("chain", "dense")
        assert parse(PRESETS, ["--designs", ""]).designs == ()

    def test_words_are_joined_by_dashes_or_lines(self) -> None:
        assert parse(PRESETS, ["--train_limit", "70"]) == parse(PRESETS, ["--train-limit=70"])

    def test_switches_are_turned_on_and_off(self) -> None:
        words = ["--objectives", "clean_error,pgd_error", "--attack-epsilon", "0.1", "--attack-steps", "5"]
        attacks = parse(PRESETS, [*words, "--no-stop-when-fooled", "--attack-images", "100"]).attacks
        assert (attacks.attack_epsilon, attacks.attack_steps, attacks.stop_when_fooled) == (0.1, 5, False)
        assert attacks.attack_images == 100
        assert parse(PRESETS, ["--async"]).search.asynchronous
        assert not parse(PRESETS, ["--async", "--no-async"]).search.asynchronous

    @pytest.mark.lengthy
    @pytest.mark.parametrize("name", ["roco", "tam", "darts"])
    def test_certificates_have_flags_in_every_method(self, name: str) -> None:
        words = "--objectives clean_error,pgd_error,certified_radius,jacobian_norm --certified-norm l2 --jacobian-q 2"
        options = parse(method_module(name).PRESETS, words.split())
        assert options.certify == CertifyOptions(certified_norm="l2", jacobian_q=2.0)

    def test_what_changes_nothing_is_refused(self) -> None:
        baseline = ["--objectives", "clean_error,macs"]
        for words in (
            ["--against", "runs/other"],
            ["--top", "3"],
            [*baseline, "--attack-steps", "3"],
            [*baseline, "--adversarial-set", "mine"],
            ["--mutation-rate", "0.5", "--operators", "nsganet", "--space", "darts"],
            ["--certified-epsilon", "0.1", "--objectives", "certified_radius,macs"],
        ):
            with pytest.raises(ConfigurationError, match="changes nothing without"):
                parse(PRESETS, words)
        assert parse(PRESETS, ["--top", "5"]) == PRESETS["quick"]  # that is what it has already


@dataclass(frozen=True)
class Numbers:
    """Tuples of every kind."""

    names: tuple[str, ...] = ("a",)
    """Names."""
    whole: tuple[int, ...] = (1, 2)
    """Whole numbers."""
    real: tuple[float, ...] = (0.5,)
    """Real numbers."""


class TestTuples:
    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            ([], Numbers()),
            (["--whole", "3"], Numbers(whole=(3,))),
            (["--whole", "-3,4,5"], Numbers(whole=(-3, 4, 5))),
            (["--real", "1,2.5,1e-3"], Numbers(real=(1.0, 2.5, 0.001))),
            (["--real", "8/255,-1/4"], Numbers(real=(8 / 255, -0.25))),
            (["--real", "1", "2"], Numbers(real=(1.0, 2.0))),
            (["--names", "1,2"], Numbers(names=("1", "2"))),
            (["--whole", ""], Numbers(whole=())),
        ],
    )
    def test_numbers_are_given_with_commas_too(self, words: list[str], expected: Numbers) -> None:
        found = parse({"numbers": Numbers()}, words)
        assert found == expected
        kinds = [type(each) for each in (*found.whole, *found.real)]
        assert kinds == [int] * len(found.whole) + [float] * len(found.real)

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--whole", "1,two"], "expected a whole number for --whole, got 'two'"),
            (["--whole", "1.0"], "expected a whole number for --whole, got '1.0'"),
            (["--real", "half"], "expected a number, such as 0.1 or 8/255, for --real, got 'half'"),
            (["--real", "1/0"], "expected a number, such as 0.1 or 8/255, for --real, got '1/0'"),
            (["--real", "--names", "a"], "expected 1 value(s) after --real, got 0"),
        ],
    )
    def test_what_is_no_number_is_one_line(self, words: list[str], said: str) -> None:
        with pytest.raises(ConfigurationError) as refused:
            parse({"numbers": Numbers()}, words)
        assert str(refused.value).startswith(said)
        assert "\n" not in str(refused.value)


class TestUnknownWords:
    @pytest.mark.parametrize(
        ("words", "hint"),
        [
            (["--popluation", "3"], "unknown option --popluation; did you mean --population?"),
            (["--epoch=3"], "unknown option --epoch; did you mean --epochs?"),
            (["--no-stop-when-foold"], "did you mean --no-stop-when-fooled?"),
            (["--train_limits", "3"], "did you mean --train-limit?"),
            (["--xyzzy"], "unknown option --xyzzy; --help-all lists all options"),
        ],
    )
    def test_an_unknown_flag_gets_the_nearest_one(self, words: list[str], hint: str) -> None:
        with pytest.raises(ConfigurationError) as refused:
            parse(PRESETS, words)
        assert hint in str(refused.value)

    @pytest.mark.parametrize(
        ("words", "hint"),
        [
            (["rocco"], "unknown command 'rocco'; did you mean roco?"),
            (["verfy", "runs/x"], "did you mean verify?"),
            (["xyzzy"], f"known: {', '.join(sorted([*COMMANDS, *METHODS]))}"),
        ],
    )
    def test_an_unknown_command_gets_the_nearest_one(
        self, words: list[str], hint: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(words) == 2
        error = capsys.readouterr().err
        assert hint in error
        assert error.count("\n") == 1

    def test_the_help_of_the_program_names_commands_and_methods(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            main(["--help"])
        assert ended.value.code == 0
        said = " ".join(capsys.readouterr().out.split())
        for name in ("show", "verify", "front", "export", "set", "doctor", *(f"{name} --help" for name in METHODS)):
            assert name in said


@pytest.mark.lengthy
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--preset", "huge"], "unknown --preset 'huge'; known: paper, quick"),
        (["--preset", "papr"], "unknown --preset 'papr'; did you mean paper?"),
        (["--no-such-flag"], "unknown option --no-such-flag"),
        (["--epochs", "many"], "expected a whole number for --epochs, got 'many'"),
        (["--epochs"], "expected 1 value(s) after --epochs, got 0"),
        (["--epochs", "0"], "expected epochs >= 1, got 0"),
        (["--population", "1"], "population >= 2"),
        (["--objectives", "clean_error,speed"], "unknown objective 'speed'; known: adversarial_set_error, certified"),
        (["--objectives", "macs,macs"], "expected different objectives"),
        (["--objectives", ""], "at least one"),
        (["--algorithm", "moead"], "unknown algorithm 'moead'; known: nsga2, nsga3"),
        (["--space", "cells"], "unknown search space 'cells'; known: darts, nasbench201, phase, shuffle"),
        (["--recipe", "magic"], "unknown recipe 'magic'; known: cells, crown_ibp"),
        (["--nodes", "1"], "expected nodes >= 2, got 1"),
        (["--nodes", "9"], "expected nodes <= 8, got 9"),
        (["--operators", "swap"], "unknown operators 'swap'; known: nsganet, roco"),
        (["--mutation-rate", "2"], "only 'nsganet' has one"),
        (["--designs", "tree"], "unknown design 'tree'; known: chain, dense, pair, residual"),
        (["--data", "imagenet1"], "unknown data set 'imagenet1'; known: auto, cifar10"),
        (["--data", "npz:/no/such/file.npz"], "there is no such file"),
        (["--precision", "fp8"], "expected a precision of auto, bf16, fp32, tf32, got 'fp8'"),
        (["--threads", "0"], "expected threads >= 1"),
        (["--device", "tpu9"], "expected a device"),
        (["--device", "meta"], "expected a device"),
        (["--objectives", "clean_error,flops", "--channels", "0"], "expected channels >= 1, got 0"),
        (["--device", "cuda:77"], "expected a device that is there, got 'cuda:77'"),
        (["--train-limit", "3"], "at least one image a class"),
        (["--init-from", "/no/such/run"], "could not read"),
        (["--adversarial-set", "/no/such/set"], "expected an adversarial set in /no/such/set.safetensors: there is no"),
        (["--attack-epsilon", "-1"], "expected attack_epsilon in [0, 1], got -1.0"),
        (["--attack-steps", "0"], "steps >= 1"),
        (["--attack-images", "0"], "images >= 1"),
        (["--attack-epsilon", "8"], "expected attack_epsilon in [0, 1], got 8.0: it is on the [0, 1] scale; 8/255?"),
        (["--split-seed", "x"], "expected a whole number for --split-seed, got 'x'"),
        (["--plugin", "/no/such/file.py"], "expected a Python file with --plugin"),
        (["--suite", "pgd,pgd", "--retrain"], "every part of the suite once"),
        (["--retrain", "--test-limit", "3"], "at least one image a class"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_what_a_user_can_cause_is_one_line_and_exit_code_2(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told before minutes are spent on an adversarial set."""
    monkeypatch.setattr("evonas.runs.sets.build_adversarial_set", lambda *arguments: pytest.fail("a set was built"))
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "run"
    assert main(["roco", "--data", "digits", "--out", str(out), *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert said in error
    assert not out.exists()  # nothing was begun


class TestExitCodes:
    def test_every_end_has_its_code(self) -> None:
        def interrupted(number: int) -> None:
            raise Interrupted(number)

        def broken() -> None:
            raise StorageError("disk full")

        def defect() -> None:
            raise ZeroDivisionError

        assert guarded(lambda: None) == 0
        assert guarded(lambda: interrupted(2)) == 130
        assert guarded(lambda: interrupted(15)) == 143
        assert guarded(broken) == 2
        with pytest.raises(ZeroDivisionError):  # a defect shows its traceback
            guarded(defect)

    @pytest.mark.parametrize(("raised", "code"), [(Interrupted(15), 143), (KeyboardInterrupt(), 130)])
    def test_a_signal_is_one_line(self, raised: BaseException, code: int, capsys: pytest.CaptureFixture[str]) -> None:
        def stopped() -> None:
            raise raised

        assert guarded(stopped) == code
        error = capsys.readouterr().err
        assert error.startswith("stopped")
        assert "the same command" in error
        assert error.count("\n") == 1

    @pytest.mark.slow
    def test_a_reader_that_went_away_is_no_traceback(self) -> None:
        """As `evonas show RUN | head -1` does."""
        printing = "lambda: [print(i, flush=True) for i in range(99999)]"
        code = f"import sys; from evonas.runs import guarded; sys.exit(guarded({printing}))"
        words = [sys.executable, "-c", code]
        child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert child.stdout is not None
        assert child.stdout.readline() == "0\n"
        child.stdout.close()
        assert child.stderr is not None
        assert (child.wait(120), child.stderr.read()) == (141, "")
        child.stderr.close()

    def test_command_runs_the_parsed_options(self, capsys: pytest.CaptureFixture[str]) -> None:
        seen: list[Any] = []
        assert command(seen.append, PRESETS, ["--seed", "5"]) == 0
        assert isinstance(seen[0], RocoOptions)
        assert seen[0].seed == 5
        assert command(seen.append, PRESETS, ["--seed", "five"]) == 2
        assert len(seen) == 1
        with pytest.raises(SystemExit):
            command(seen.append, PRESETS, ["--help"], "mine.py")
        loading, usage, *_ = capsys.readouterr().out.splitlines()
        assert loading.endswith(": loading torch")
        assert usage == "usage: mine.py [OPTIONS]"
