"""Published results, for comparison with those of a study. The numbers and their sources are in published.json."""

import json
from functools import cache
from importlib import resources
from typing import Any


@cache
def _numbers() -> Any:
    return json.loads((resources.files("autodisp.studies") / "published.json").read_text(encoding="utf-8"))


def published(study: str, *keys: str) -> str | None:
    """Returns the published result of a study, such as "4.66 ± 0.71"; None if there is none."""
    node = _numbers()["results"].get(study, {})
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    return node if isinstance(node, str) else None
