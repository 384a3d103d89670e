"""Where editors keep prompts, as JSON for programs that cannot import the engine:

    python -m evals.layouts_file > action_entry/package_layouts.json

A test holds that file equal to `evals.manifests.LAYOUTS`.
"""

from __future__ import annotations

import json
import sys

from evals.folders import NEVER_PACKED
from evals.manifests import FOREIGN_SUITE_PATH, LAYOUTS, MANIFEST, SUITE_PATHS
from evals.suites.references import ENDINGS


def layouts_text() -> str:
    """The file's content."""
    value = {
        "manifest": MANIFEST,
        "suites": [*SUITE_PATHS, FOREIGN_SUITE_PATH],
        "never": sorted(NEVER_PACKED),
        "named_by_suites": list(ENDINGS),
        "layouts": [
            {"pattern": layout.pattern.pattern, **({"required": layout.required} if layout.required else {})}
            for layout in LAYOUTS
        ],
    }
    return json.dumps(value, indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(layouts_text())
