"""``method: bayes`` by Optuna's TPE, over what the run folders say.

Only the suggestions are kept, a line each, before a trial is launched; results are read from the
runs. So a search survives ``kill -9``, and several processes can share one.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Sequence
from typing import Any

from minesweep.errors import UserError
from minesweep.lease import held
from minesweep.sweeps.parameters import Parameter, write
from minesweep.sweeps.plan import Planner, Trial, study_folders
from minesweep.sweeps.runner import Options, Runner
from minesweep.sweeps.spec import Sweep
from minesweep.sweeps.trials import choices, limit, random_trial
from minesweep.training.folder import lease_folder, read_json

PROBES = 20
"""How many random points of a search are composed before it starts."""


class Search:
    """A search over one sweep file, seed and set of fixed overrides.

    Args:
        sweep: The sweep; its metric says what to search for.
        planner: Composes the trials.
        options: Seed, number of trials, trials at a time, fixed overrides.

    Raises:
        UserError: Optuna is not installed, or the search has no end.
    """

    def __init__(self, sweep: Sweep, planner: Planner, options: Options) -> None:
        try:
            import optuna
        except ImportError:
            raise UserError("method: bayes needs Optuna: pip install 'minesweep[bayes]'") from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        assert sweep.metric is not None
        self._sweep, self._metric, self._planner = sweep, sweep.metric, planner
        self.total = limit(sweep, options.count) or 0
        self._seed, self._jobs = options.seed, options.jobs
        asked = repr((sweep.parameters, sweep.metric, sweep.fixed, options.fixed, options.seed))
        digest = hashlib.sha256(asked.encode()).hexdigest()[:8]
        # The points of a search are not known before it: some others have to compose instead.
        probes = [random_trial(sweep.parameters, options.seed, i) for i in range(PROBES)]
        folder = study_folders(planner.plan(probes))[0]
        self._file = folder / f"bayes-{digest}.jsonl"
        self._swept = [p for p in sweep.parameters if p.distribution != "constant"]
        self.planned: list[Trial] = []
        self._plan(self._suggestions())

    def run(self, runner: Runner) -> None:
        """Suggests and runs trials until there are as many as asked for."""
        while True:
            self._plan(self._suggestions())
            runner.run(self.planned, wait=False)
            if len(self._suggestions()) >= self.total:
                break
            self._suggest()
        self._plan(self._suggestions())
        runner.run(self.planned)

    def _plan(self, suggestions: Sequence[dict[str, Any]]) -> None:
        for suggestion in suggestions[len(self.planned) :]:
            self.planned += self._planner.plan([self._overrides(suggestion)])

    def _overrides(self, suggestion: dict[str, Any]) -> list[str]:
        return [
            write(p.name, decode(p, suggestion[p.name]) if p in self._swept else p.values[0])
            for p in self._sweep.parameters
        ]

    def _suggestions(self) -> list[dict[str, Any]]:
        """What was suggested so far, by any process; a half-written line is none."""
        if not self._file.exists():
            return []
        whole, _, _ = self._file.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()][: self.total]

    def _suggest(self) -> None:
        with held(lease_folder(self._file)):
            earlier = self._suggestions()
            self._plan(earlier)
            new = self._ask(earlier, min(self._jobs, self.total - len(earlier)))
            lines = "".join(json.dumps(suggestion) + "\n" for suggestion in [*earlier, *new])
            part = self._file.with_suffix(".part")
            part.write_text(lines)
            os.replace(part, self._file)

    def _ask(self, earlier: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
        import optuna
        from optuna.trial import TrialState, create_trial

        # A fresh sampler each time, seeded by how many there are: nothing but results is carried.
        with warnings.catch_warnings():  # Optuna 4 calls ``constant_liar`` experimental
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                seed=self._seed * 100_003 + len(earlier), constant_liar=True
            )
        directions = optuna.study.StudyDirection
        direction = directions.MAXIMIZE if self._metric.sign > 0 else directions.MINIMIZE
        study = optuna.create_study(direction=direction, sampler=sampler)
        space = {parameter.name: optuna_distribution(parameter) for parameter in self._swept}
        for suggestion, trial in zip(earlier, self.planned, strict=True):
            value = None
            if trial.finished:
                value = read_json(trial.folder / "summary.json").get(self._metric.name)
            state = TrialState.FAIL if value is None else TrialState.COMPLETE
            if trial.status.get("state") == "running":
                state = TrialState.RUNNING
            study.add_trial(
                create_trial(state=state, params=suggestion, distributions=space, value=value)
            )
        return [study.ask(space).params for _ in range(count)]


def optuna_distribution(parameter: Parameter) -> Any:
    """The parameter for Optuna: places in the list of choices, or the range before rounding."""
    from optuna import distributions

    if parameter.distribution == "categorical":
        return distributions.CategoricalDistribution(list(range(len(choices(parameter)))))
    if parameter.distribution == "int_uniform":
        return distributions.IntDistribution(int(parameter.low), int(parameter.high))
    log = "log" in parameter.distribution
    return distributions.FloatDistribution(float(parameter.low), float(parameter.high), log=log)


def decode(parameter: Parameter, suggested: Any) -> Any:
    """The value that a suggestion of Optuna's stands for."""
    if parameter.distribution == "categorical":
        return choices(parameter)[suggested]
    if parameter.distribution.startswith("q_"):
        return round(suggested / parameter.q) * parameter.q
    return suggested
