"""What Weights & Biases would refuse, told before anything is computed.

``wandb`` checks its own settings, also those of the environment. What only its server checks
stands here.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

from minesweep.config.identity import Config, choice, run_name
from minesweep.errors import UserError

LONGEST = 128
"""Characters of a group, and of a run's name and id, at most."""
LONGEST_TAG = 64


def check_wandb(cfg: Config) -> None:
    """Compares what W&B will be given with what it takes. Empty variables count as unset.

    Raises:
        UserError: W&B would refuse the project, a tag, the group, or a variable ``WANDB_...``.
    """
    options = cfg["logger"].get("wandb")
    if not options:
        return
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        if not os.environ[name].strip():
            del os.environ[name]
    if os.environ.get("WANDB_MODE") == "disabled":
        return
    variables = {name: text for name, text in os.environ.items() if name.startswith("WANDB_")}
    _check_variables(tuple(sorted(variables.items())))
    _check_settings(str(options["project"]), tuple(map(str, options["tags"])))
    for what, text in (
        ("study", group(cfg)),
        ("WANDB_RUN_ID", os.environ.get("WANDB_RUN_ID", "")),
        ("WANDB_NAME", os.environ.get("WANDB_NAME", run_name(cfg))),
    ):
        if len(text) > LONGEST:
            raise UserError(
                f"{what}={text[:20]}... has {len(text)} characters, and W&B takes {LONGEST}"
            )


def group(cfg: Config) -> str:
    """The runs of an arm, which W&B shows together."""
    given = os.environ.get("WANDB_RUN_GROUP")
    return given or f"{cfg['study']}/{run_name(cfg).rsplit('-s', 1)[0]}"


def tags(cfg: Config) -> list[str]:
    """The tags of a run: its dataset, its model, and those of the user."""
    own = [choice(cfg, "dataset"), choice(cfg, "model")]
    return list(
        dict.fromkeys([*(tag[:LONGEST_TAG] for tag in own), *cfg["logger"]["wandb"]["tags"]])
    )


@lru_cache
def _check_variables(variables: tuple[tuple[str, str], ...]) -> None:
    import wandb

    for name, text in variables:
        _try(f"{name}={text}", lambda: wandb.Settings().update_from_env_vars({name: text}))  # noqa: B023


@lru_cache
def _check_settings(project: str, tags: tuple[str, ...]) -> None:
    import wandb

    _try(f"logger.wandb.project={project}", lambda: wandb.Settings(project=project))
    _try(f"logger.wandb.tags=[{','.join(tags)}]", lambda: wandb.Settings(run_tags=tags))


def _try(what: str, make: Any) -> None:
    from pydantic import ValidationError
    from wandb.errors import UsageError

    try:
        make()
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
    except UsageError as error:
        reason = str(error)
    else:
        return
    raise UserError(f"W&B refuses {what}: {reason}")
