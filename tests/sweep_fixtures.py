"""Runs a sweep file in the test's own process, through Hydra's launchers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig
from sweeping import ROOT, pretend

from minesweep.config.places import CONF, VERSION_BASE
from minesweep.sweeps.engine import run_sweep
from minesweep.sweeps.plan import Trial
from minesweep.sweeps.runner import Options


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("MINESWEEP_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minesweep.reporting.analyse.report.analyse", lambda folder: None)
    monkeypatch.setattr("minesweep.reporting.show.write.write", lambda report: [])
    monkeypatch.setattr("minesweep.dashboard.headline.send_headline", lambda report: "")
    monkeypatch.setattr("minesweep.reporting.show.tables.print_report", lambda report, files: None)


@pytest.fixture
def sweep(runs: Path, no_report: None) -> Iterator[Callable[..., list[Trial]]]:
    """Runs a sweep file in this process through Hydra's own launcher."""

    def run(
        path: Path,
        *fixed: str,
        task: Callable[[DictConfig], Any] = pretend,
        launcher: str = "basic",
        hydra: tuple[str, ...] = (),
        **options: Any,
    ) -> list[Trial]:
        with initialize_config_dir(str(CONF), **VERSION_BASE):
            loader = GlobalHydra.instance().config_loader()
            words = [
                "hydra/hydra_logging=none",
                "hydra/job_logging=none",
                f"hydra/launcher={launcher}",
                *hydra,
            ]
            master = loader.load_configuration("train", words, RunMode.MULTIRUN)
            context = HydraContext(config_loader=loader, callbacks=Callbacks())
            launch = (
                Plugins.instance()
                .instantiate_launcher(hydra_context=context, task_function=task, config=master)
                .launch
            )
            return run_sweep(
                Options(str(path), fixed=fixed, **options),
                lambda overrides: loader.load_sweep_config(master, list(overrides)),
                launch,
                launcher,
            )

    yield run
    HydraConfig.instance().cfg = None
    if "joblib" in sys.modules:
        # Its workers would outlive the test, with this test's environment.
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(wait=True)
