"""`make oldest` tries the versions that setup.cfg promises."""

import configparser
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_oldest_versions_are_those_that_are_tried() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    promised = dict(
        re.split(r"(?:\[\w+\])? >= ", line) for line in setup["options"]["install_requires"].strip().splitlines()
    )
    lines = (ROOT / "tests" / "oldest.txt").read_text().splitlines()
    tried = dict(line.split("  #")[0].split("==") for line in lines if not line.startswith("#"))
    assert len(promised) == 14
    for name, version in promised.items():
        assert re.fullmatch(rf"{re.escape(version)}(\.0)*", tried[name]), name
