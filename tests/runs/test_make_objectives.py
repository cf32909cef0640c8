"""Objectives of a run by their names: what needs more than a name says so."""

import json

import numpy as np
import pytest

from evonas.errors import ConfigurationError
from evonas.objectives import CleanError, OodAupr, OodImages
from evonas.runs.objectives import AttackSettings, identity_of, make_objectives

NOISE = OodAupr(OodImages("noise", np.arange(48, dtype=np.uint8).reshape(4, 3, 2, 2)))


def test_ood_aupr_without_images_of_another_data_set_is_one_clear_error() -> None:
    with pytest.raises(ConfigurationError, match="expected images of another data set for ood_aupr, got none"):
        make_objectives(("clean_error", "ood_aupr"), AttackSettings(), "fp32", None)


def test_ood_aupr_is_the_one_that_was_given() -> None:
    made = make_objectives(("ood_aupr", "clean_error"), AttackSettings(), "fp32", None, ood=NOISE)
    assert made == (NOISE, CleanError())
    assert make_objectives(("clean_error",), AttackSettings(), "fp32", None, ood=NOISE) == (CleanError(),)


def test_a_runs_identity_has_the_images_by_their_fingerprint() -> None:
    identity = identity_of(NOISE)
    assert identity["ood"] == {"fingerprint": NOISE.ood.fingerprint}
    assert json.loads(json.dumps(identity)) == {**identity, "ratio": [1, 5]}
