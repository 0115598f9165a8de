"""What a W&B server knows and answers, without the HTTP: runs, sweeps and their trials.

It answers the GraphQL operations that wandb 0.22.3 to 0.31.0 make for runs and sweeps. It keeps
no artifacts, and answers no `wandb.Api()` queries, Bayesian sweeps or early termination: an
operation it does not know is noted in `Backend.unanswered`.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

ENTITY = "tester"


@dataclass
class Run:
    """What the server received of one run.

    Attributes:
        state: "pending" (handed to an agent, not begun), "running", "finished", "failed" or
            "preempted" (to be handed to an agent again).
        values: what an agent gets for it.
        preempting: whether the run said that its machine is about to be taken away.
        config: the config without W&B's wrapping (`{"lr": 0.1}`, not `{"lr": {"value": 0.1}}`)
            and without its private `_wandb` entry.
        history: one dict for each logged step, with `_step`, `_runtime` and `_timestamp`; a
            histogram is `{"_type": "histogram", "values": [...], "bins": [...]}`.
        files: the uploaded files by name, such as `config.yaml`.
    """

    id: str
    project: str
    entity: str = ENTITY
    state: str = "pending"
    exit_code: int | None = None
    display_name: str | None = None
    group: str | None = None
    job_type: str | None = None
    tags: list[str] = field(default_factory=list)
    sweep: str | None = None
    values: dict[str, Any] = field(default_factory=dict)
    preempting: bool = False
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)


@dataclass
class Sweep:
    """One sweep: its configuration as sent by `wandb sweep`, and the trials still to hand out."""

    id: str
    project: str
    config: dict[str, Any]
    trials: Iterator[dict[str, Any]]
    again: list[Run] = field(default_factory=list)
    state: str = "PENDING"
    entity: str = ENTITY

    @property
    def path(self) -> str:
        """What `wandb agent` is called with: entity/project/id."""
        return f"{self.entity}/{self.project}/{self.id}"


class Backend:
    """The state of the server and its answers.

    Args:
        seed: of random sweeps.
    """

    url: str

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.sweeps: list[Sweep] = []
        self.runs: list[Run] = []
        self.unanswered: list[str] = []
        self.agents: dict[str, Sweep] = {}
        # Guards all of the above, and is notified after each request.
        self.changed = threading.Condition()

    def wait_for(self, predicate: Callable[[Backend], Any], timeout: float = 60) -> None:
        """Return once `predicate(self)` holds, looking after each request.

        Raises:
            TimeoutError: after `timeout` seconds, with the states of the runs.
        """
        with self.changed:
            if not self.changed.wait_for(lambda: predicate(self), timeout):
                states = {run.id: run.state for run in self.runs}
                raise TimeoutError(f"not so after {timeout} s; the runs: {states}")

    def find_run(self, project: str | None, run_id: str) -> Run | None:
        return next((r for r in self.runs if (r.project, r.id) == (project, run_id)), None)

    def find_sweep(self, sweep_id: str) -> Sweep:
        return next(sweep for sweep in self.sweeps if sweep.id == sweep_id)

    # The GraphQL operations, by the name the client gives them, or what is asked for first;
    # called with `changed` held.

    def _viewer(self, _: dict[str, Any]) -> dict[str, Any]:
        person = {"id": "1", "entity": ENTITY, "username": ENTITY, "email": "tester@localhost"}
        server = {"cliVersionInfo": {"max_cli_version": "1.0.0"}}
        viewer = {**person, "flags": "{}", "teams": {"edges": []}}
        return {"viewer": viewer, "serverInfo": server}

    def _server_features(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _capabilities(self, _: dict[str, Any]) -> dict[str, Any]:
        """That it says which clients it takes; older clients wait for artifacts otherwise."""
        known = {
            "QueryType": ["serverInfo"],
            "MutationType": [],
            "ServerInfoType": ["cliVersionInfo"],
        }
        return {kind: {"fields": [{"name": n} for n in known[kind]]} for kind in known}

    def _organization(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"entity": {"organization": None}}

    def _upsert_sweep(self, variables: dict[str, Any]) -> dict[str, Any]:
        config = yaml.safe_load(variables["config"])
        sweep = Sweep(
            id=f"sweep{len(self.sweeps)}",
            project=variables["projectName"] or "uncategorized",
            config=config,
            trials=trials(config, self.seed),
        )
        self.sweeps.append(sweep)
        answer = {"name": sweep.id, "project": _project(sweep.project)}
        return {"upsertSweep": {"sweep": answer, "configValidationWarnings": []}}

    def _sweep_with_runs(self, variables: dict[str, Any]) -> dict[str, Any]:
        sweep = self.find_sweep(variables["sweep"])
        answer = {
            "id": sweep.id,
            "name": sweep.id,
            "method": sweep.config["method"],
            "state": sweep.state,
            "config": yaml.safe_dump(sweep.config),
            "runs": {"edges": []},
        }
        return {"project": {"sweep": answer}}

    def _create_agent(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = f"agent{len(self.agents)}"
        self.agents[name] = self.find_sweep(variables["sweep"])
        return {"createAgent": {"agent": {"id": name}}}

    def _heartbeat(self, variables: dict[str, Any]) -> dict[str, Any]:
        """An agent at rest gets the next trial, or is told to leave; a busy one nothing."""
        busy = any(json.loads(variables["runState"]).values())
        commands = [] if busy else [self._next_command(self.agents[variables["id"]])]
        answer = {"agent": {"id": variables["id"]}, "commands": json.dumps(commands)}
        return {"agentHeartbeat": answer}

    def _next_command(self, sweep: Sweep) -> dict[str, Any]:
        if sweep.again:
            run = sweep.again.pop(0)
            run.state, run.preempting = "pending", False
            return self._command("resume", sweep, run)
        values = next(sweep.trials, None)
        if values is None:
            sweep.state = "FINISHED"
            return {"type": "exit"}
        sweep.state = "RUNNING"
        run = Run(id=f"trial{len(self.runs)}", project=sweep.project, sweep=sweep.id)
        run.values = values
        self.runs.append(run)
        return self._command("run", sweep, run)

    def _command(self, kind: str, sweep: Sweep, run: Run) -> dict[str, Any]:
        return {
            "type": kind,
            "run_id": run.id,
            "program": sweep.config["program"],
            "args": {name: {"value": value} for name, value in run.values.items()},
        }

    def _upsert_bucket(self, variables: dict[str, Any]) -> dict[str, Any]:
        project = variables["project"] or "uncategorized"
        run = self.find_run(project, variables["name"])
        inserted = run is None
        if run is None:
            run = Run(id=variables["name"], project=project)
            self.runs.append(run)
        if run.state == "pending":
            run.state = "running"
        run.state = variables.get("state") or run.state
        run.display_name = variables.get("displayName") or run.display_name or run.id
        run.group = variables.get("groupName") or run.group
        run.job_type = variables.get("jobType") or run.job_type
        run.sweep = variables.get("sweep") or run.sweep
        run.tags = variables.get("tags") or run.tags
        if variables.get("config"):
            run.config = _plain_config(json.loads(variables["config"]))
        if variables.get("summaryMetrics"):
            run.summary = json.loads(variables["summaryMetrics"])
        bucket = {
            "id": run.id,
            "name": run.id,
            "displayName": run.display_name,
            "description": None,
            "config": _wrapped_config(run.config),
            "sweepName": run.sweep,
            "project": _project(project),
            "historyLineCount": len(run.history),
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def _resume_status(self, variables: dict[str, Any]) -> dict[str, Any]:
        """What a resumed run goes on from; a null bucket for a run that never was."""
        project = variables["project"]
        run = self.find_run(project, variables["name"])
        if run is None:
            return {"model": {**_project(project), "bucket": None}}
        run.state = "running"
        bucket = {
            "id": run.id,
            "name": run.id,
            "displayName": run.display_name,
            "summaryMetrics": json.dumps(run.summary),
            "config": _wrapped_config(run.config),
            "historyTail": json.dumps([json.dumps(row) for row in run.history[-1:]]),
            "historyLineCount": len(run.history),
            "eventsTail": "[]",
            "eventsLineCount": 0,
            "logLineCount": 0,
            "tags": run.tags,
            "notes": None,
            "wandbConfig": '{"t": 1}',
        }
        return {"model": {**_project(project), "bucket": bucket}}

    def _stopped_status(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"run": {"stopped": False}}}

    def _create_run_files(self, variables: dict[str, Any]) -> dict[str, Any]:
        place = f"{self.url}/upload/{variables['project']}/{variables['run']}"
        files = [{"name": n, "uploadUrl": f"{place}/{n}"} for n in variables["files"]]
        answer = {"runID": variables["run"], "uploadHeaders": [], "files": files}
        return {"createRunFiles": answer}

    def _input_fields(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"TypeInfo": {"inputFields": []}}

    def graphql(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """Answer one GraphQL request; None for an operation that is not known."""
        name = re.findall(r"^\s*(?:query|mutation)?\W*(\w+)", body["query"])[0]
        if name not in _OPERATIONS:
            self.unanswered.append(name)
            return None
        return {"data": _OPERATIONS[name](self, body.get("variables") or {})}

    def file_stream(self, project: str, run_id: str, body: Mapping[str, Any]) -> None:
        """Take in a piece of a run's history and summary, and the news that it ended."""
        run = self.find_run(project, run_id)
        assert run is not None, f"file_stream of the unknown run {project}/{run_id}"
        files = body.get("files") or {}
        if history := files.get("wandb-history.jsonl"):
            # The offset makes a request that is sent twice count once.
            run.history[history["offset"] :] = [json.loads(row) for row in history["content"]]
        if summary := files.get("wandb-summary.json"):
            run.summary = json.loads(summary["content"][-1])
        run.preempting |= bool(body.get("preempting"))
        if body.get("complete"):
            run.exit_code = body["exitcode"]
            run.state = "failed" if run.exit_code else "finished"
            if run.exit_code and run.preempting and run.sweep is not None:
                run.state = "preempted"
                self.find_sweep(run.sweep).again.append(run)


_OPERATIONS = {
    "Viewer": Backend._viewer,
    "viewer": Backend._viewer,
    "ProbeServerCapabilities": Backend._capabilities,
    "ServerFeaturesQuery": Backend._server_features,
    "OrganizationCoreWeaveOrganizationID": Backend._organization,
    "UpsertSweep": Backend._upsert_sweep,
    "SweepWithRuns": Backend._sweep_with_runs,
    "CreateAgent": Backend._create_agent,
    "Heartbeat": Backend._heartbeat,
    "UpsertBucket": Backend._upsert_bucket,
    "RunResumeStatus": Backend._resume_status,
    "RunStoppedStatus": Backend._stopped_status,
    "InputFields": Backend._input_fields,
    "CreateRunFiles": Backend._create_run_files,
}


def _project(name: str) -> dict[str, Any]:
    return {"id": name, "name": name, "entity": {"id": ENTITY, "name": ENTITY}}


def _plain_config(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: entry["value"] for key, entry in config.items() if key != "_wandb"}


def _wrapped_config(config: Mapping[str, Any]) -> str:
    return json.dumps({key: {"value": value} for key, value in config.items()})


def trials(config: Mapping[str, Any], seed: int) -> Iterator[dict[str, Any]]:
    """The trials of a sweep: `{parameter: value}` each, `run_cap` of them at most.

    A grid takes its values in the order of the file, the last parameter fastest (`wandb
    sweep` sorts the parameters by name before it sends them).

    Raises:
        ValueError: for a method or distribution that this server does not draw from.
    """
    parameters = config["parameters"]
    if config["method"] == "grid":
        columns = [p["values"] if "values" in p else [p["value"]] for p in parameters.values()]
        points = (dict(zip(parameters, row, strict=True)) for row in itertools.product(*columns))
    elif config["method"] == "random":
        rng = random.Random(seed)
        points = ({name: draw(p, rng) for name, p in parameters.items()} for _ in itertools.count())
    else:
        raise ValueError(f"method {config['method']!r} is neither grid nor random")
    return itertools.islice(points, config.get("run_cap"))


def draw(parameter: Mapping[str, Any], rng: random.Random) -> Any:
    """One value of a parameter of a random sweep, by W&B's names for the distributions."""
    if "value" in parameter:
        return parameter["value"]
    if "values" in parameter:
        return rng.choices(parameter["values"], parameter.get("probabilities"))[0]
    kind = parameter["distribution"]
    if kind == "int_uniform":
        return rng.randint(parameter["min"], parameter["max"])
    shape = kind.removeprefix("q_")
    if shape == "uniform":
        value = rng.uniform(parameter["min"], parameter["max"])
    elif shape == "log_uniform_values":
        value = math.exp(rng.uniform(math.log(parameter["min"]), math.log(parameter["max"])))
    elif shape == "normal":
        value = rng.gauss(parameter.get("mu", 0), parameter.get("sigma", 1))
    else:
        raise ValueError(f"distribution {kind!r} is not one this server draws from")
    if kind.startswith("q_"):
        step = parameter.get("q", 1)
        return round(value / step) * step
    return value
