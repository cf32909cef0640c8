"""Objectives of a run by their names: the numbers that options give them, what needs more than a name, identities."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from evonas.adversarial_sets import AdversarialSet
from evonas.attacks import FGSM, PGD
from evonas.errors import ConfigurationError, EvonasError, UnknownNameError
from evonas.objectives import (
    AdversarialSetError,
    CertifiedAccuracy,
    CertifiedRadius,
    CleanError,
    FGSMError,
    JacobianNorm,
    Macs,
    OodAupr,
    OodImages,
    PGDError,
)
from evonas.parts import part_identity
from evonas.runs import AttackOptions, CertifyOptions, make_objectives

NOISE = OodAupr(OodImages("noise", np.arange(48, dtype=np.uint8).reshape(4, 3, 2, 2)))
CERTIFIED = ("jacobian_norm", "clean_error", "certified_radius", "certified_accuracy")


def test_attack_objectives_take_the_numbers_of_the_options() -> None:
    attacks = AttackOptions(
        attack_epsilon=0.1, attack_steps=3, attack_step_size=0.05, stop_when_fooled=False, attack_images=40
    )
    names = ("pgd_error", "macs", "fgsm_error", "clean_error")
    assert make_objectives(names, attacks, precision="bf16") == (
        PGDError(attack=PGD(epsilon=0.1, step_size=0.05, steps=3, precision="bf16"), images=40),
        Macs(),
        FGSMError(attack=FGSM(epsilon=0.1, precision="bf16"), images=40),
        CleanError(),
    )
    usual = (PGDError(), FGSMError())
    assert make_objectives(("pgd_error", "fgsm_error"), AttackOptions()) == usual
    assert make_objectives(("pgd_error", "fgsm_error")) == usual


def test_certified_objectives_take_the_numbers_of_the_options() -> None:
    usual = (JacobianNorm(), CleanError(), CertifiedRadius(), CertifiedAccuracy())
    assert make_objectives(CERTIFIED) == make_objectives(CERTIFIED, certify=CertifyOptions()) == usual
    options = CertifyOptions(
        jacobian_q=2,
        jacobian_images=5,
        certified_norm="l2",
        certified_epsilon=0.1,
        certified_images=7,
        certified_intermediate="linear",
        certified_relaxation="same_slope",
    )
    bounds: dict[str, Any] = {"norm": "l2", "images": 7, "intermediate": "linear", "relaxation": "same_slope"}
    given = make_objectives(CERTIFIED, certify=options)
    assert given == (
        JacobianNorm(q=2, images=5),
        CleanError(),
        CertifiedRadius(**bounds),
        CertifiedAccuracy(epsilon=0.1, **bounds),
    )
    identities = [json.dumps(part_identity(part), allow_nan=False) for part in (*usual, *given)]
    assert len(set(identities)) == 7  # all differ but the two clean errors


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (AttackOptions, {"attack_epsilon": -1.0}),
        (AttackOptions, {"attack_steps": 0}),
        (AttackOptions, {"attack_step_size": 0.0}),
        (AttackOptions, {"attack_images": 0}),
        (CertifyOptions, {"jacobian_q": 0.9}),
        (CertifyOptions, {"jacobian_images": 0}),
        (CertifyOptions, {"certified_norm": "l1"}),
        (CertifyOptions, {"certified_epsilon": -0.1}),
        (CertifyOptions, {"certified_images": 0}),
        (CertifyOptions, {"certified_intermediate": "ibp"}),
        (CertifyOptions, {"certified_relaxation": "best"}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_numbers_that_make_no_sense_are_refused_at_once(kind: type, values: dict[str, Any]) -> None:
    with pytest.raises(EvonasError, match=r"expected|unknown"):
        kind(**values)


def test_a_set_is_given_to_its_objective_alone(digits_set: AdversarialSet) -> None:
    names = ("clean_error", "macs", "adversarial_set_error")
    found = make_objectives(names, adversarial_set=digits_set)
    assert found == (CleanError(), Macs(), AdversarialSetError(digits_set))
    with pytest.raises(ConfigurationError, match="expected an adversarial set for adversarial_set_error, got none"):
        make_objectives(names)
    assert make_objectives(("macs",), adversarial_set=digits_set) == (Macs(),)


def test_ood_aupr_is_the_one_that_was_given() -> None:
    assert make_objectives(("ood_aupr", "clean_error"), ood=NOISE) == (NOISE, CleanError())
    assert make_objectives(("clean_error",), ood=NOISE) == (CleanError(),)
    with pytest.raises(ConfigurationError, match="expected images of another data set for ood_aupr, got none"):
        make_objectives(("clean_error", "ood_aupr"))


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown objective 'speed'; known: adversarial_set_error, "):
        make_objectives(("speed",))


def test_identities_are_plain_values(digits_set: AdversarialSet) -> None:
    """Arrays go by their fingerprint, attacks by their name and every number."""
    assert part_identity(AdversarialSetError(digits_set)) == {
        "adversarial_set": {"fingerprint": digits_set.fingerprint},
        "batch_size": 500,
    }
    noise = part_identity(NOISE)
    assert noise["ood"] == {"fingerprint": NOISE.ood.fingerprint}
    assert json.loads(json.dumps(noise)) == {**noise, "ratio": [1, 5]}
    pgd = part_identity(PGDError())
    assert pgd["attack"]["name"] == "pgd"
    assert pgd["attack"]["steps"] == 10
    assert pgd["images"] is None
    others = [
        PGDError(attack=replace(PGDError().attack, steps=11)),
        PGDError(images=5),
        PGDError(attack=PGD(norm="l2")),
        FGSMError(),
    ]
    texts = {json.dumps(part_identity(each), sort_keys=True, allow_nan=False) for each in (PGDError(), *others)}
    assert len(texts) == 5


def test_errors_and_aupr_take_the_size_of_a_pass_and_certificates_keep_theirs() -> None:
    names = ("clean_error", "pgd_error", "fgsm_error", "ood_aupr", "macs", *CERTIFIED[2:], "jacobian_norm")
    usual: tuple[Any, ...] = make_objectives(names, ood=NOISE)
    given = make_objectives(names, ood=NOISE, batch_size=7)
    assert given == (*(replace(each, batch_size=7) for each in usual[:4]), *usual[4:])
    assert [each.batch_size for each in usual[:4]] == [500, 250, 250, 500]
