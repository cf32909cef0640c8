"""Command lines: presets, flags, errors with one line and exit code 2."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from evonas.cli import main
from evonas.errors import ConfigurationError, StorageError
from evonas.runs import ROCO_PRESETS, RocoSettings, command, guarded, parse
from evonas.runs.interrupt import Interrupted


def test_the_paper_preset_is_table_ii() -> None:
    paper = parse(ROCO_PRESETS, ["--preset", "paper"])
    assert (paper.phases, paper.nodes, paper.channels) == (3, 6, 16)
    assert (paper.search.population, paper.search.generations, paper.search.evaluations) == (40, 20, 840)
    assert (paper.training.epochs, paper.training.batch_size, paper.training.lr) == (25, 128, 0.025)
    assert (paper.train_limit, paper.val_limit, paper.operators, paper.designs) == (None, None, "roco", ())
    assert paper.search.objectives == ("clean_error", "macs", "adversarial_set_error")  # III-D
    assert paper.adversarial_set == "auto"


def test_flags_override_the_preset_in_any_order() -> None:
    for words in (["--epochs", "3", "--preset", "paper"], ["--preset=paper", "--epochs", "3"]):
        settings = parse(ROCO_PRESETS, words)
        assert (settings.preset, settings.training.epochs, settings.search.population) == ("paper", 3, 40)


def test_no_flag_is_the_quick_preset() -> None:
    assert parse(ROCO_PRESETS, []) == ROCO_PRESETS["quick"]


def test_the_last_preset_counts() -> None:
    assert parse(ROCO_PRESETS, ["--preset", "paper", "--preset", "quick"]) == ROCO_PRESETS["quick"]
    assert parse(ROCO_PRESETS, ["--preset=quick", "--preset=paper"]).search.population == 40


def test_a_signal_is_one_line_that_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    def stopped() -> None:
        raise Interrupted(15)

    assert guarded(stopped) == 143
    assert capsys.readouterr().err == "stopped: everything finished is kept; the same command goes on from there\n"


def test_ctrl_c_before_a_run_began_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert guarded(interrupted) == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_names_are_given_with_commas() -> None:
    settings = parse(ROCO_PRESETS, ["--objectives", "clean_error,params", "--designs", "chain,dense"])
    assert settings.search.objectives == ("clean_error", "params")
    assert settings.designs == ("chain", "dense")
    assert parse(ROCO_PRESETS, ["--designs", ""]).designs == ()


def test_attacks_are_set_by_flags() -> None:
    words = ["--attack-epsilon", "0.1", "--attack-steps", "5", "--no-stop-when-fooled", "--attack-images", "100"]
    attacks = parse(ROCO_PRESETS, words).attacks
    assert (attacks.attack_epsilon, attacks.attack_steps, attacks.stop_when_fooled) == (0.1, 5, False)
    assert attacks.attack_images == 100


@dataclass(frozen=True)
class Numbers:
    """Tuples of every kind."""

    names: tuple[str, ...] = ("a",)
    whole: tuple[int, ...] = (1, 2)
    real: tuple[float, ...] = (0.5,)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], Numbers()),
        (["--whole", "3"], Numbers(whole=(3,))),
        (["--whole", "-3,4,5"], Numbers(whole=(-3, 4, 5))),
        (["--real", "1,2.5,1e-3"], Numbers(real=(1.0, 2.5, 0.001))),
        (["--names", "1,2"], Numbers(names=("1", "2"))),
        (["--whole", ""], Numbers(whole=())),
    ],
)
def test_numbers_are_given_with_commas_too(words: list[str], expected: Numbers) -> None:
    found = parse({"numbers": Numbers()}, words)
    assert found == expected
    assert [type(each) for each in (*found.whole, *found.real)] == [int] * len(found.whole) + [float] * len(found.real)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--whole", "1,two"], "Error parsing --whole: invalid literal for int() with base 10: 'two'"),
        (["--whole", "1.0"], "Error parsing --whole: invalid literal for int() with base 10: '1.0'"),
        (["--real", "half"], "Error parsing --real: could not convert string to float: 'half'"),
        (["--real", "1", "2"], "Unrecognized options: 2"),
    ],
)
def test_what_is_no_number_is_one_line(words: list[str], said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse({"numbers": Numbers()}, words)
    assert str(refused.value).startswith(said)
    assert "\n" not in str(refused.value)


def test_help_names_the_kind_of_each_tuple(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse({"numbers": Numbers()}, ["--help"])
    text = capsys.readouterr().out
    for wanted in ("--names NAME,NAME,...", "--whole INT,INT,...", "--real NUMBER,NUMBER,...", "(default: 1,2)"):
        assert wanted in text


def test_help_exits_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["roco", "--help"])
    assert exit_info.value.code == 0
    assert "--objectives NAME,NAME,..." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--preset", "huge"], "invalid choice 'huge' for argument '--preset'"),
        (["--no-such-flag"], "Unrecognized options: --no-such-flag"),
        (["--epochs", "many"], "Error parsing --epochs: invalid literal for int() with base 10: 'many'"),
        (["--epochs"], "Missing value for argument '--epochs'"),
        (["--epochs", "0"], "expected epochs > 0, got 0;"),
        (["--population", "1"], "population >= 2"),
        (["--objectives", "clean_error,speed"], "unknown objective 'speed'; known: adversarial_set_error, certified"),
        (["--objectives", "macs,macs"], "expected different objectives"),
        (["--objectives", ""], "at least one"),
        (["--algorithm", "moead"], "unknown algorithm 'moead'; known: nsga2, nsga3"),
        (["--nodes", "1"], "expected 2 to 8 nodes a phase, got 1 (a single node has no connection)"),
        (["--nodes", "9"], "expected 2 to 8 nodes"),
        (["--operators", "swap"], "unknown operators 'swap'; known: nsganet, roco"),
        (["--mutation-rate", "2"], "only 'nsganet' has one"),
        (["--designs", "tree"], "unknown design 'tree'; known: chain, dense, pair, residual"),
        (["--data", "imagenet1"], "unknown data set 'imagenet1'; known: auto, cifar10"),
        (["--data", "npz:/no/such/file.npz"], "there is no file"),
        (["--precision", "fp8"], "expected a precision of auto, bf16, fp32, got 'fp8'"),
        (["--threads", "0"], "expected threads >= 1"),
        (["--device", "tpu9"], "expected a device"),
        (["--device", "meta"], "expected a device"),
        (["--objectives", "clean_error,flops", "--channels", "0"], "whole number of channels"),
        (["--device", "cuda:77"], "expected a device that is there, got 'cuda:77'"),
        (["--train-limit", "3"], "at least one image a class"),
        (["--init-from", "/no/such/run"], "could not read"),
        (["--adversarial-set", "/no/such/set"], "expected an adversarial set in /no/such/set.safetensors: there is no"),
        (["--attack-epsilon", "-1"], "expected epsilon >= 0"),
        (["--attack-steps", "0"], "steps >= 1"),
        (["--attack-images", "0"], "images >= 1"),
        (["--attack-epsilon", "8/255"], "could not convert string to float"),
        (["--split-seed", "x"], "invalid literal for int()"),
    ],
)
def test_what_a_user_can_cause_is_one_line_and_exit_code_2(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told before minutes are spent on an adversarial set."""
    monkeypatch.setattr(
        "evonas.runs.adversarial_sets.build_adversarial_set", lambda *arguments: pytest.fail("a set was built")
    )
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "run"
    assert main(["roco", "--data", "digits", "--out", str(out), *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert said in error
    assert not out.exists()  # nothing was begun


def test_a_reader_that_went_away_is_no_traceback() -> None:
    """As `evonas show RUN | head -1` does."""
    printing = "lambda: [print(i, flush=True) for i in range(99999)]"
    code = f"import sys; from evonas.runs import guarded; sys.exit(guarded({printing}))"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "0\n"
    child.stdout.close()
    assert child.stderr is not None
    assert (child.wait(60), child.stderr.read()) == (141, "")
    child.stderr.close()


def test_exit_codes() -> None:
    def interrupted(number: int) -> None:
        raise Interrupted(number)

    assert guarded(lambda: None) == 0
    assert guarded(lambda: interrupted(2)) == 130
    assert guarded(lambda: interrupted(15)) == 143

    def broken() -> None:
        raise StorageError("disk full")

    assert guarded(broken) == 2

    def defect() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):  # a defect shows its traceback
        guarded(defect)


def test_command_runs_the_parsed_settings() -> None:
    seen: list[RocoSettings] = []
    assert command(seen.append, ROCO_PRESETS, ["--seed", "5"]) == 0
    assert seen[0].search.seed == 5


@pytest.mark.parametrize("words", [["show"], ["export"], ["verify"]])
def test_a_folder_that_holds_no_run_is_one_line(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
