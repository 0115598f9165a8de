"""The W&B workspace and reports as code: what would be sent, held by a snapshot.

The real service is not asked. After a change that is meant, write the snapshot anew:
``MINESWEEP_SNAPSHOT=write python -m pytest tests/test_dashboard_wandb.py``.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from reporting_fixtures import config, ohem_study, write_run

from minesweep.dashboard.cloud import save, studies, study_report, workspace
from minesweep.errors import UserError
from minesweep.tracking.sections import SECTIONS

pytest.importorskip("wandb_workspaces")
# Pydantic's own words about the package's models.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")

SNAPSHOT = Path(__file__).parent / "snapshots" / "wandb_workspace.json"


def spec(item: Any) -> Any:
    """What is sent, without the random names of panels."""
    text = item._to_model().spec.model_dump_json(by_alias=True, exclude_none=True)
    return json.loads(re.sub(r'"(__id__|id)":"[^"]*"', r'"\1":""', text))


def panels(tree: Any) -> list[dict[str, Any]]:
    """All panels anywhere in a spec."""
    if isinstance(tree, list):
        return [panel for item in tree for panel in panels(item)]
    if not isinstance(tree, dict):
        return []
    own = [tree] if "viewType" in tree else []
    return own + [panel for item in tree.values() for panel in panels(item)]


def test_the_workspace_is_the_snapshot() -> None:
    found = spec(workspace("me", "minesweep"))
    if os.environ.get("MINESWEEP_SNAPSHOT") == "write":
        SNAPSHOT.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    assert found == json.loads(SNAPSHOT.read_text())


def test_the_workspace_has_the_sections_of_tensorboard() -> None:
    sections = spec(workspace("me", "minesweep"))["section"]["panelBankConfig"]["sections"]
    names = [section["name"] for section in sections]
    assert [name for name in names if name != "histograms"] == list(SECTIONS)
    for section in sections:
        drawn = [p["config"].get("metricRegex") for p in section["panels"]]
        wanted = [f"^{pattern}$" for pattern in SECTIONS.get(section["name"], {}).values()]
        assert [pattern for pattern in drawn if pattern] == wanted


def test_a_report_has_the_study_and_its_keys(tmp_path: Path) -> None:
    study = ohem_study(tmp_path / "two words", {128: 0.01}, seeds=range(3)).rename(tmp_path / "nk")
    views = [{"kind": "tradeoff", "x": "samples/backward", "y": "test/accuracy"}]
    (study / "report.yaml").write_text(yaml.safe_dump({"baseline": "random_k", "views": views}))
    write_run(tmp_path / "failed", config(), state="failed")
    (report,) = studies(tmp_path)
    made = study_report("me", "minesweep", report)
    assert made.title == "Minesweep: nk"
    found = spec(made)
    text = json.dumps(found, ensure_ascii=False)
    assert report.headline.split(":")[0] in text
    runset = re.search(r'"filters": (\{"filterFormat".*?\]\})', text)
    assert runset is not None
    (wanted,) = json.loads(runset[1])["filters"]
    assert (wanted["key"]["name"], wanted["op"], wanted["value"]) == ("study", "=", "nk")
    drawn = panels(found)
    columns = [c["accessor"] for c in drawn[0]["config"]["columns"]]
    assert columns == [
        "config:miner_name.value",
        "config:k.value",
        "config:seed.value",
        "summary:test/accuracy",
    ]
    kinds = [panel["viewType"] for panel in drawn]
    assert kinds[-1] == "Scatter Plot"
    assert "Run History Line Plot" in kinds


def test_a_nested_key_is_found_in_the_tree(tmp_path: Path) -> None:
    for lr in (0.1, 0.2):
        write_run(tmp_path / "rates", config(optimizer__lr=lr, dataset__label_noise=lr), lr)
    (report,) = studies(tmp_path)
    columns = panels(spec(study_report("me", "p", report)))[0]["config"]["columns"]
    assert [c["accessor"] for c in columns][:2] == [
        "config:cfg.value.dataset.label_noise",
        "config:cfg.value.optimizer.lr",
    ]


@pytest.mark.parametrize("target", ["", "me", "me/you/us", "me/<script>", "/p"])
def test_a_target_that_is_none(target: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be ENTITY/PROJECT"):
        save(target, tmp_path)


def test_without_a_key_it_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(UserError, match="wandb login"):
        save("me/minesweep", tmp_path)
