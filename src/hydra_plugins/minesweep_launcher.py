"""Hydra's submitit launchers, with trials that go on after a preemption, on several GPUs or nodes.

``python src/sweep.py FILE --launcher submitit_slurm`` chooses them. Hydra imports this file at each
start: nothing heavy here.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from omegaconf import OmegaConf, open_dict

try:
    from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher
except ImportError:  # the extra slurm is not installed; src/sweep.py says so
    BaseSubmititLauncher = object


class _Launcher(BaseSubmititLauncher):
    """A job for each trial. The results of those that end without one are None."""

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> list[JobReturn | None]:
        from submitit import AutoExecutor
        from submitit.core.utils import UncompletedJobError

        self.words = sys.argv
        params = dict(self.params)
        own = {"folder": params.pop("submitit_folder"), "cluster": self._EXECUTOR}
        if "max_num_timeout" in params:
            own[f"{self._EXECUTOR}_max_num_timeout"] = params.pop("max_num_timeout")
        executor = AutoExecutor(**own)
        shared = OmegaConf.structured(BaseQueueConf).keys()
        executor.update_parameters(
            **{k if k in shared else f"{self._EXECUTOR}_{k}": v for k, v in params.items()}
        )
        numbers = range(initial_job_idx, initial_job_idx + len(job_overrides))
        states = [Singleton.get_state()] * len(numbers)
        jobs = executor.map_array(self, [list(words) for words in job_overrides], numbers, states)
        results: list[JobReturn | None] = []
        for job in jobs:
            try:
                results.append(job.results()[0])
            except UncompletedJobError:  # killed, or failed with an error of its own
                results.append(_cancelled(job) if job.state.startswith("CANCELLED") else None)
        return results

    def __call__(
        self, overrides: list[str], number: int, singletons: dict[type, Singleton]
    ) -> JobReturn | None:
        from minesweep.sweeps.jobs import Job

        Singleton.set_state(singletons)
        setup_globals()
        assert self.hydra_context is not None
        config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)

        def compute() -> JobReturn:
            with open_dict(config.hydra.job):
                config.hydra.job.id, config.hydra.job.num = job.id, number
            return run_job(
                hydra_context=self.hydra_context,
                task_function=self.task_function,
                config=config,
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
            )

        trial = OmegaConf.masked_copy(config, [name for name in config if name != "hydra"])
        job = Job(trial, self.params["nodes"], self.params["gpus_per_node"] or 1)
        return job.work(compute, [*self._program(), *overrides])

    def _program(self) -> list[str]:
        """The program of the sweep, and the folder with the user's own configuration."""
        from minesweep.config.overrides import user_folders

        folders = user_folders(self.words)
        own = ["--config-dir", str(folders[0])] if folders else []
        return [str(Path(self.words[0]).resolve()), *own]


def _cancelled(job: Any) -> JobReturn:
    from minesweep.sweeps.runner import Cancelled

    error = Cancelled(f"its job {job.job_id} was cancelled")
    return JobReturn(status=JobStatus.FAILED, _return_value=error)


class LocalLauncher(_Launcher):
    _EXECUTOR = "local"


class SlurmLauncher(_Launcher):
    _EXECUTOR = "slurm"
