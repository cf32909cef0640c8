"""docs/tutorial.md as a reader pastes it: its bash blocks in order in one shell, in a clean folder.

Claim: all commands of the tutorial end well, within 15 minutes on two cores.

    python benchmarks/tutorial.py                      # in a temporary folder
    python benchmarks/tutorial.py --folder tutorial    # keeps the run; a new or empty folder
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "tutorial.md"
SHELL = f"""set -euo pipefail
evonas() {{ "{sys.executable}" -m evonas "$@"; }}
python() {{ "{sys.executable}" "$@"; }}
"""
"""The commands of the page are those of this environment."""


def prepared(page: str, folder: Path) -> str:
    """One shell script of the bash blocks of a page, each followed by its seconds; scripts with a title are written."""
    script = SHELL
    for language, title, code in re.findall(r'^```(\w+)(?: title="(.*?)")?\n(.*?)^```', page, re.MULTILINE | re.DOTALL):
        if language == "bash":
            shown = "".join(f"$ {line}\n" for line in code.splitlines())
            script += f"cat <<'SHOWN'\n{shown}SHOWN\nSECONDS=0\n{code}echo \"($SECONDS s)\"\n"
        elif title:
            (folder / title).write_text(code)
    return script


def run(folder: Path) -> int:
    """0 where every block ended well and in time; prints what they print at 80 columns."""
    start = time.monotonic()
    script = prepared(PAGE.read_text(), folder)
    done = subprocess.run(["bash", "-c", script], cwd=folder, env={**os.environ, "COLUMNS": "80"}, check=False)
    seconds = time.monotonic() - start
    print(f"{seconds:.0f} s of 900, exit status {done.returncode}")
    return done.returncode or int(seconds > 900)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    folder = parser.parse_args().folder
    if folder is None:
        with tempfile.TemporaryDirectory() as temporary:
            return run(Path(temporary))
    folder.mkdir(parents=True, exist_ok=True)
    return run(folder.resolve())


if __name__ == "__main__":
    sys.exit(main())
