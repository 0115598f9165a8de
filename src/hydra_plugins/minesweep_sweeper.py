"""The sweep engine as a Hydra sweeper, so that every Hydra launcher serves it.

``python src/train.py -m hydra/sweeper=minesweep hydra.sweeper.file=sweeps/nk.yaml``; or, shorter,
``python src/sweep.py sweeps/nk.yaml``. Hydra imports this file at each start: nothing heavy here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import MISSING, DictConfig


@dataclass
class MinesweepSweeperConf:
    """The options of ``src/sweep.py``, which explains them."""

    _target_: str = "hydra_plugins.minesweep_sweeper.MinesweepSweeper"
    file: str = MISSING
    check: bool = False
    count: int | None = None
    retries: int = 1
    seed: int = 0
    jobs: int = 1
    worker: bool = False
    until_sure: bool = False
    care: float | None = None
    max_seeds: int | None = None
    budget: str | None = None


ConfigStore.instance().store(
    group="hydra/sweeper", name="minesweep", node=MinesweepSweeperConf, provider="minesweep"
)


class MinesweepSweeper(Sweeper):
    """Hands Hydra's loader and launcher to the engine; knows nothing of sweeps itself."""

    launcher: Launcher
    hydra_context: HydraContext

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.hydra_context = hydra_context
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Sequence[Any]:
        from minesweep.sweeps.engine import run_sweep
        from minesweep.sweeps.runner import Options

        config = self.config
        assert config is not None
        # As in a job: where a user's own code lies is read from there.
        HydraConfig.instance().set_config(config)
        loader = self.hydra_context.config_loader
        return run_sweep(
            Options(**self.options, fixed=tuple(arguments)),
            compose=lambda overrides: loader.load_sweep_config(config, list(overrides)),
            launch=self.launcher.launch,
            launcher=config.hydra.runtime.choices["hydra/launcher"],
        )
