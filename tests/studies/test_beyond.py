"""Studies beyond the papers: their sentences follow from the numbers, and they share runs without changing them."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from test_studies import make
from toy_studies import studied, toy

from evonas.cli import main
from evonas.errors import ConfigurationError
from evonas.files import write_json
from evonas.report.papers import beyond
from evonas.studies import capacity, guidelines, proxies, proxies_agreement, proxies_runs, supernet, supernet_runs
from evonas.studies.association import Effect
from evonas.studies.grid import record
from evonas.studies.page import write_study
from evonas.studies.study import Row, Studied, shared


def filled(name: str, root: Path, rows: list[Row], seeds: int = 2) -> Studied:
    """The study with these rows instead of its runs'."""
    found = Studied(toy(name), "quick", seeds, root)
    found.__dict__["rows"] = rows  # a cached property
    return found


def front(gain: float, seeds: int = 2) -> list[Row]:
    """Twelve networks of both methods a seed, of equal MACs; RoCo-NAS's robust errors are lower by the gain."""
    return [
        {
            "label": label,
            "role": "cifar10",
            "seed": seed,
            "arch_id": f"{label}{number}",
            "macs": 1e6 * (1 + 0.5 * number),
            capacity.CLEAN: 0.1 + 0.01 * ((number * 5) % 7),
            **dict.fromkeys(
                capacity.ERRORS, 0.5 + 0.01 * (number * 3 % 11) - gain * (label == "RoCo-NAS") + 0.001 * seed
            ),
        }
        for seed in range(seeds)
        for label in ("RoCo-NAS", "Baseline-NAS")
        for number in range(12)
    ]


def test_capacity_says_what_its_numbers_say(tmp_path: Path) -> None:
    page = "\n".join(capacity.findings(filled("capacity", tmp_path, front(0.1))))
    assert "PGD 1/255: -10.00 [" in page
    assert "better under set that no search saw, PGD 1/255, AutoAttack 1/255, and worse under none" in page
    assert "the third objective gives robustness that these do not explain" in page
    page = "\n".join(capacity.findings(filled("capacity", tmp_path, front(0.0))))
    assert "PGD 1/255: +0.00 [" in page
    assert "better under none, and worse under none" in page
    assert "is not shown to give" in page
    page = "\n".join(capacity.findings(filled("capacity", tmp_path, front(-0.1))))
    assert "worse under set that no search saw" in page
    assert "is not shown to give" in page
    assert list(capacity.findings(filled("capacity", tmp_path, []))) == ["Nothing yet: no network is measured."]


def test_capacity_leaves_out_what_was_not_measured(tmp_path: Path) -> None:
    rows = [{key: value for key, value in row.items() if key != "autoattack_1_error"} for row in front(0.1)]
    page = "\n".join(capacity.findings(filled("capacity", tmp_path, rows)))
    assert "AutoAttack" not in page
    assert "Of the 2 robust errors" in page
    (table,) = capacity.differences(filled("capacity", tmp_path, rows))
    assert {line[0]: line[1:] for line in table.lines}["AutoAttack 1/255"] == ("-",) * 4


def test_capacity_leaves_out_networks_that_both_searches_found(tmp_path: Path) -> None:
    """One training is no evidence for either method, also beside other networks."""
    rows = front(0.1, 1)
    both = [{**rows[0], "label": label, "arch_id": "both", "pgd_error": 0.9} for label in ("RoCo-NAS", "Baseline-NAS")]
    assert capacity.points([*rows, *both], "pgd_error") == capacity.points(rows, "pgd_error")
    other = [{**both[0], "seed": 1}, both[1]]
    assert len(capacity.points([*rows, *other], "pgd_error")[0]) == len(rows) + 1
    (table,) = capacity.differences(filled("capacity", tmp_path, [*rows, *both]))
    assert "1 of 25 networks are on both fronts of their seed" in " ".join(table.notes)


def test_capacity_matches_by_clean_errors_on_all_test_images(tmp_path: Path) -> None:
    """Those on few images are not even looked at; the page says the standard error of those that are."""
    rows = front(0.1)
    few = [{**row, "clean_error": 0.9 * (row["label"] == "RoCo-NAS")} for row in rows]
    assert capacity.points(few, "pgd_error") == capacity.points(rows, "pgd_error")
    (table,) = capacity.differences(filled("capacity", tmp_path, few))
    assert "10,000 in CIFAR-10, a standard error of up to 0.5 points each" in " ".join(table.notes)
    without = [{key: value for key, value in row.items() if key != capacity.CLEAN} for row in rows]
    assert capacity.points(without, "pgd_error") == ()


def test_verdicts() -> None:
    nan = math.nan
    assert capacity.verdict(None, 5).startswith("no pair of networks")
    assert capacity.verdict(Effect(0.1, nan, nan, 3), 5).startswith("too few networks are matched")
    assert capacity.verdict(Effect(-0.1, -0.2, 0.1, 3), 5).startswith("the interval holds 0")
    assert capacity.verdict(Effect(0.0, 0.0, 0.0, 3), 5) == "no difference at all"
    assert capacity.verdict(Effect(0.1, 0.05, 0.2, 3), 5).endswith("less robust than its size and clean error explain")
    more = capacity.verdict(Effect(-0.1, -0.2, -0.05, 3), 4)
    assert more.startswith("RoCo-NAS is more robust than its size and clean error explain")
    assert more.endswith("in 4 seed(s), which are too few for a sound interval")


def scored(label: str, order: list[float], seed: int = 0) -> list[Row]:
    common: dict[str, Any] = {"label": label, "role": "cifar10", "seed": seed, "untrained_choices": 0, "all_choices": 6}
    return [
        {**common, "arch_id": f"a{number}", "clean_error": value, "pgd_error": value, "pgd10_8_error": value}
        for number, value in enumerate(order)
    ]


def test_the_supernets_tau_is_over_the_same_networks(tmp_path: Path) -> None:
    up = [0.1 * number for number in range(8)]
    rows = [*scored(supernet_runs.ALONE, up), *scored("fair, clean", up), *scored(supernet_runs.REFERENCE, up[::-1])]
    found = filled("supernet", tmp_path, rows, 1)
    (table,) = supernet.predictions(found)
    lines = {line[:2]: line[2:] for line in table.lines}
    assert lines["fair", "clean"][0] == "+1.00 [+1.00, +1.00] (8)"
    assert lines["per epoch", "clean"] == ("-1.00 [-1.00, -1.00] (8)",) * 2 + ("-", "-")
    assert lines["fair", "clean"][2] == "+2.00 [+2.00, +2.00] (8)"
    assert lines["fair", "off"] == ("-",) * 4
    page = "\n".join(supernet.findings(found))
    assert "clean error: fair, clean predicts best, tau +1.00 [+1.00, +1.00] (8); +2.00" in page
    assert "better; chosen as the best of 9, which the interval is not corrected for, in 1 seed(s)" in page


def test_a_gain_is_of_the_seeds_in_which_both_have_an_order(tmp_path: Path) -> None:
    """In seed 1 all errors of a setting are equal; there the paper's tau is -1, which is none of the setting's gain."""
    up, flat = [0.1 * number for number in range(8)], [0.9] * 8
    rows = [row for seed in (0, 1) for row in scored(supernet_runs.ALONE, up, seed)]
    rows += [*scored(supernet_runs.REFERENCE, up, 0), *scored(supernet_runs.REFERENCE, up[::-1], 1)]
    rows += [*scored("fair, off", up, 0), *scored("fair, off", flat, 1)]
    found = filled("supernet", tmp_path, rows)
    (table,) = supernet.predictions(found)
    lines = {line[:2]: line[2:] for line in table.lines}
    assert lines["fair", "off"] == ("+1.00 [+1.00, +1.00] (8)",) * 2 + ("+0.00 [+0.00, +0.00] (8)",) * 2
    assert lines["per epoch", "clean"][0].endswith("(16)")
    page = "\n".join(supernet.findings(found))
    assert "PGD error: every network has the same one, so that nothing is ordered: fair, off (seed 1)." in page
    few = [row for row in rows if row["arch_id"] in ("a0", "a1", "a2", "a3")]
    (table,) = supernet.predictions(filled("supernet", tmp_path, few))
    lines = {line[:2]: line[2:] for line in table.lines}
    assert lines["fair", "off"] == ("-",) * 4  # four networks of one seed
    assert lines["per epoch", "clean"][0].endswith("(8)")


def test_seeds_have_their_own_numbers_and_marks_in_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of seed 0 is finished, and one setting has fewer seeds than another."""
    drawn: list[Any] = []
    monkeypatch.setattr(beyond, "write_png", lambda path, figure: drawn.append(figure))
    order = [0.1 * number for number in range(8)]
    rows = [row for seed in range(1, 7) for row in scored(supernet_runs.ALONE, order, seed)]
    rows += [row for seed in range(1, 7) for row in scored("fair, off", order, seed)]
    rows += scored(supernet_runs.REFERENCE, order, 2)
    assert supernet.draw_predictions(filled("supernet", tmp_path, rows, 7), tmp_path / "a.png")
    targets = [row | {"seed": row["seed"] + 3} for row in measured({"quick_robust_error": UP}, [UP, UP])]
    assert proxies.draw_networks(filled("proxies", tmp_path, targets), tmp_path / "b.png")
    legends = [[text.get_text() for text in figure.legends[0].get_texts()] for figure in drawn]
    assert sorted(legends[0]) == [f"seed {seed}" for seed in range(1, 7)]
    assert legends[1] == ["seed 3", "seed 4"]
    marks = [
        (mark.get_facecolor().tobytes(), mark.get_paths()[0].vertices.tobytes())
        for mark in drawn[0].axes[-1].collections
    ]
    assert len(set(marks)) == 6


def test_shares_of_untrained_layers_are_means_over_seeds(tmp_path: Path) -> None:
    """Two networks with 1 and 3 of 6 in one seed, with 3 and 5 in the other: 33.3% and 66.7%."""
    counts = {0: (1, 3), 1: (3, 5)}
    rows = [
        row | {"untrained_choices": count}
        for seed, both in counts.items()
        for row, count in zip(scored(supernet_runs.REFERENCE, [0.1, 0.2], seed), both, strict=True)
    ]
    (table,) = supernet.coverage(filled("supernet", tmp_path, rows))
    assert table.lines[0][4] == "50.0 +- 23.6 (2)"


UP = [0.1 * number for number in range(1, 9)]
SWAPPED = [UP[1], UP[0], *UP[2:]]
"""One of 28 pairs the other way round: tau 26/28."""


def measured(orders: dict[str, list[float]], targets: list[list[float]]) -> list[Row]:
    """Eight networks whose predictors and whose robust errors after each training are in these orders."""
    took = {"quick_robust_error_seconds": 4.0, "adversarial_set_error_seconds": 0.5, "pgd_error_seconds": 1.0}
    common: dict[str, Any] = {"role": "cifar10", "train_seconds": 2.0}
    found = [
        {**common, **took, "label": proxies_runs.PREDICTED, "seed": 0, "arch_id": f"a{number}"}
        | {name: values[number] for name, values in orders.items()}
        for number in range(8)
    ]
    return found + [
        {**common, "label": proxies_runs.TARGET, "seed": seed, "arch_id": f"a{number}", "autoattack_error": value}
        for seed, values in enumerate(targets)
        for number, value in enumerate(values)
    ]


def test_proxies_rank_the_same_networks_against_every_seed(tmp_path: Path) -> None:
    orders = {"quick_robust_error": UP, "adversarial_set_error": UP[::-1], "pgd_error": [1.0] * 8, "params": UP[::-1]}
    found = filled("proxies", tmp_path, measured(orders, [UP, SWAPPED]))
    first, second = proxies.correlations(found)
    lines = {line[0]: line[1:] for line in first.lines}
    quick = lines["quick adversarial training, FGSM"]
    assert (quick[0][:7], quick[0][-5:]) == ("+0.96 [", "] (8)")  # (28 + 26) / 2 / 28
    assert (quick[1][:7], quick[3][:7]) == (
        "+0.99 [",
        "+0.90 [",
    )  # 1 - 6 / 504 and 1 - 6 / 60
    assert (quick[2][:7], quick[2][-5:]) == ("+0.83 [", "] (4)")  # one of 6 pairs of the best half
    assert quick[4:] == ("-", "15.0", "4.00", "0.241")
    of_set = lines["clean training, RoCo-NAS's set"]
    assert of_set[0].startswith("-0.96 [")
    assert (of_set[4][:7], of_set[4][-5:]) == ("+1.93 [", "] (2)")
    assert of_set[5:] == ("80.0", "2.50", "-0.386")
    assert lines["clean training, PGD"] == ("-", "-", "-", "-", "-", "45.0", "3.00", "-")  # all tie
    assert lines["clean training, no attack"] == ("-",) * 8  # nor was it measured
    assert lines["more parameters"][0] == quick[0]  # more of them is better
    assert lines["more parameters"][6:] == ("0.00", "-")
    assert lines[proxies.CEILING][0].startswith("+0.93 [")
    assert set(second.lines[0][1:]) == {"-"}  # PGD-20 was not measured
    page = "\n".join(proxies.findings(found))
    assert "AutoAttack: quick adversarial training, FGSM ranks best, tau +0.96 [" in page
    assert "two seeds of the target agree by +0.93 [" in page
    assert "quick adversarial training, FGSM minus clean training, RoCo-NAS's set: +1.93 [" in page
    assert "ranks better" in page
    assert "PGD-20: nothing yet." in page
    assert "Fewer than 10 networks: all of this is anecdote." in page


def test_proxies_resample_networks_alike_on_both_sides() -> None:
    pairs = ((tuple(UP), tuple(SWAPPED)), (tuple(UP), tuple(UP[::-1])))
    assert proxies_agreement.agreement(pairs, "tau", pairs) == Effect(0.0, 0.0, 0.0, 2)  # seeds
    assert proxies_agreement.agreement((), "tau") is None
    assert proxies_agreement.agreement(((tuple(UP), (math.nan, *UP[1:])),), "tau") is None


@pytest.mark.parametrize("kind", ["tau", "Spearman"])
def test_proxies_subtract_correlations_of_one_seed(kind: str) -> None:
    """In the second seed the other side has no order: 1 - 1 of the first one is left, not (1 - 1) / 2 - 1."""
    ordered, opposite, even = (tuple(UP), tuple(UP)), (tuple(UP), tuple(UP[::-1])), ((0.5,) * 8, tuple(UP))
    found = proxies_agreement.agreement((ordered, opposite), kind, (ordered, even))
    assert found == pytest.approx(Effect(0.0, 0.0, 0.0, 1), abs=1e-12)
    found = proxies_agreement.agreement((ordered, opposite, ordered), kind, (opposite, opposite, even))
    assert found == pytest.approx(Effect(1.0, 1.0, 1.0, 2), abs=1e-12)  # (2 + 0) / 2
    assert proxies_agreement.agreement((ordered,), kind, (even,)) is None


def test_proxies_need_every_seed_of_a_network(tmp_path: Path) -> None:
    rows = [row for row in measured({"quick_robust_error": UP}, [UP, UP]) if (row["arch_id"], row["seed"]) != ("a3", 1)]
    assert len(proxies_agreement.compared(filled("proxies", tmp_path, rows), "autoattack_error").rows) == 7


def test_guidelines_compare_seed_by_seed(tmp_path: Path) -> None:
    rows = [
        {"label": label, "role": "cifar10", "seed": seed, "params": 1e6, "clean_error": error, "pgd10_8_error": 0.5}
        for seed in range(3)
        for label, error in (("Lego-Net", 0.1 + 0.1 * seed), ("reversed", 0.15 + 0.1 * seed), ("random", 0.1))
    ]
    found = filled("guidelines", tmp_path, rows, 3)
    (table,) = guidelines.errors(found)
    lines = {line[0]: line[2:] for line in table.lines}
    assert lines["Lego-Net - reversed"][1] == "-5.00 [-5.00, -5.00] (3)"
    assert lines["Lego-Net - middle"] == ("-",) * 3
    page = "\n".join(guidelines.findings(found))
    assert "Clean error %, Lego-Net minus reversed: -5.00 [-5.00, -5.00] (3); Lego-Net is better in these 3" in page
    assert "Lego-Net minus middle: -; it was not trained." in page


def test_guidelines_at_chance_level_say_nothing(tmp_path: Path) -> None:
    rows = [
        {"label": label, "role": "cifar10", "seed": seed, "params": 1e6, "clean_error": error, "pgd10_8_error": 0.9}
        for seed in range(2)
        for label, error in (("Lego-Net", 0.1), ("reversed", 0.2))
    ]
    found = filled("guidelines", tmp_path, rows)
    for cell in found.cells:
        record(tmp_path, cell, "finished", 1.0, 1.0)
        config = {"identity": {"data": {"n_classes": 10}}, "measured": {}}
        write_json(tmp_path / cell.folder / "config.json", config)
    (table,) = guidelines.errors(found)
    assert table.lines[0][3:] == ("10.00 +- 0.00 (2)", "90.00 +- 0.00 (2)*")
    assert table.notes[-1].startswith("*: chance level")
    page = "\n".join(guidelines.findings(found))
    assert "Clean error %, Lego-Net minus reversed: -10.00 [-10.00, -10.00] (2); Lego-Net is better" in page
    assert "P10 8/255 error %, Lego-Net minus reversed: +0.00 [+0.00, +0.00] (2); both are at chance level" in page
    assert "Lego-Net minus middle: -; it was not trained" in page


def test_the_preset_of_a_shared_folder_is_found(tmp_path: Path) -> None:
    study = toy("roco")
    with pytest.raises(ConfigurationError, match="expected a folder with finished runs of the study roco, got none in"):
        shared(study, tmp_path)
    for cell in list(study.cells("quick", 2))[:4]:
        record(tmp_path, cell, "finished", 1.0, 1.0)
    assert shared(study, tmp_path) == ("quick", 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("roco", "--from", "studies"), "expected no --from with the study roco, all of whose runs are its own"),
        (("capacity", "--from", "none"), "expected a folder with finished runs of the study roco, got none in"),
    ],
)
def test_what_is_refused(words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", *words, "--status"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("name", "of"), [("capacity", "roco"), ("guidelines", "tam")])
def test_shared_runs_are_measured_further_and_stay_the_other_study_s(name: str, of: str, tmp_path: Path) -> None:
    root, page = tmp_path / of, tmp_path / name
    make(of, root)
    first = studied(of, root)
    tables = {path.name: path.read_bytes() for path in root.glob("table-*")}
    trained = {path.name for path in root.glob("*/*/*.safetensors")}
    times = {path: path.stat().st_mtime_ns for path in root.glob("*/retrained/*.safetensors")}
    from evonas.studies.running import run_cells

    own = Studied(toy(name), "quick", 1, page, root)
    run_cells(own.runs, own.cells, {})
    write_study(Studied(toy(name), "quick", 1, page, root))
    assert {each.status for each in Studied(toy(name), "quick", 1, page, root).states.values()} == {"finished"}
    assert {each.status for each in studied(of, root).states.values()} == {"finished"}
    write_study(studied(of, root))
    assert {path.name: path.read_bytes() for path in root.glob("table-*")} == tables
    assert {path: path.stat().st_mtime_ns for path in times} == times
    more = {path.name for path in root.glob("*/*/*.safetensors")} - trained
    assert bool(more) == (name == "guidelines")
    assert first.states.keys() >= own.states.keys()
    assert "Runs: those of the study" in (page / "study.md").read_text()
    records = [json.loads(path.read_text())["status"] for path in root.glob(f"*/{name}.json")]
    assert set(records) == {"finished"}
