"""The dashboard for Grafana, as the tests look at it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[1] / "deploy" / "grafana" / "nixery.json"


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
    return found


def panels() -> list[dict[str, Any]]:
    """Those that show something."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> Iterator[tuple[str, str]]:
    """Every query, with the title of its panel."""
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for each in dashboard()["annotations"]["list"]:
        yield each["name"], each["expr"]


def filled(query: str, job: str = "nixery", interval: str = "1m") -> str:
    """A query as Grafana sends it, with a value for each of its variables."""
    values = {"$job": job, "$instance": ".*", "$__rate_interval": interval}
    return re.sub(r"\$\w+", lambda match: values[match[0]], query)
