"""The dashboard for Grafana is one that Grafana takes, about metrics that there are."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.dashboards import dashboard, filled, panels, queries
from tests.e2e.clients import run

PAGE = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text("utf-8")
ROWS = re.findall(r"^\| `([a-z_]+)` \| (\w+) \|([^|]*)\|(.*)$", PAGE, re.MULTILINE)
LABELS = {name: {*filter(None, labels.strip().split(", "))} for name, _, labels, _ in ROWS}
HISTOGRAMS = {name for name, kind, _, _ in ROWS if kind == "histogram"}
OF_PROMETHEUS = {"job", "instance", "le"}


def lost(told: Any, kept: Any, path: str = "") -> Iterator[str]:
    """Where a document has something that another one has not."""
    if isinstance(told, dict) and isinstance(kept, dict):
        for name, value in told.items():
            if value is not None:
                yield from lost(value, kept.get(name), f"{path}/{name}")
    elif isinstance(told, list) and isinstance(kept, list) and len(told) == len(kept):
        for number, pair in enumerate(zip(told, kept, strict=True)):
            yield from lost(*pair, f"{path}/{number}")
    elif told != kept:
        yield path


def test_grafana_knows_all_of_it() -> None:
    """Grafana's own model of a dashboard has a place for everything in this one."""
    register_default_plugins()
    told = dashboard()
    kept = json.loads(JSONEncoder().encode(Dashboard.from_json(told)))
    assert list(lost(told, kept)) == []
    assert list(lost({**told, "no-such": 1}, kept)) == ["/no-such"]


def test_panels_have_places_of_their_own() -> None:
    """No panel covers another, or leaves the page; each has a number and an explanation of its own
    words where its title does not say all."""
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    numbers = [panel["id"] for panel in dashboard()["panels"]]
    assert len(numbers) == len(set(numbers))
    assert {unit for panel in panels() if (unit := panel["fieldConfig"]["defaults"].get("unit"))}


@pytest.mark.parametrize(("title", "query"), queries())
def test_queries_are_about_metrics_that_exist(title: str, query: str) -> None:
    """A query names metrics that the daemon has, by labels that these have, and is for what was
    chosen above the panels."""
    names = re.findall(r"\b((?:nixery|process)_[a-z_]+|up)\{", query)
    assert names, title
    assert query.count('{job=~"$job", instance=~"$instance"') == len(names)
    for name in names:
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        metric = base if base in HISTOGRAMS else name
        assert metric in LABELS or metric.startswith("process_") or metric == "up", metric
    named = re.findall(r"(\w+)=~?\"", query)
    grouped = {word for words in re.findall(r"by \(([^)]*)\)", query) for word in words.split(", ")}
    plain = [re.sub(r"_(bucket|sum|count)$", "", name) for name in names]
    known = OF_PROMETHEUS.union(*(LABELS.get(name, set()) for name in (*names, *plain)))
    assert {*named, *grouped} <= known


def test_outcomes_exist() -> None:
    """Outcomes that a query, or a colour, is for are among those that the page names."""
    (row,) = [text for name, _, _, text in ROWS if name == "nixery_pulls_total"]
    told = set(re.findall(r"`([a-z ]+)`", row))
    asked = {
        word
        for _, query in queries()
        for words in re.findall(r'outcome=~?"([^"]*)"', query)
        for word in words.split("|")
    }
    (pulls,) = [panel for panel in panels() if panel["title"] == "Pulls by outcome"]
    coloured = {each["matcher"]["options"] for each in pulls["fieldConfig"]["overrides"]}
    assert asked | coloured <= told


@pytest.mark.program
def test_prometheus_takes_the_queries(tmp_path: Path) -> None:
    """Prometheus itself can read every query."""
    rules = [
        {"record": f"query:{number}", "expr": filled(query)}
        for number, (_, query) in enumerate(queries())
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = run(["promtool", "check", "rules", str(file)])
    assert done.code == 0, done.output
