"""Makes a choice of each arm that a study's file names (``minesweep.config.arms``).

Hydra finds ``experiment=help/ohem-25`` as if ``conf/experiment/help/ohem-25.yaml`` were a file that
adds to ``conf/experiment/help.yaml``, or to the ``experiment`` that the arm itself names.
Hydra imports this file at each start: nothing heavy here.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins import file_config_source
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf

from minesweep.config.arms import GROUP, KEY, read_arms
from minesweep.config.places import CONF


class ArmsSource(file_config_source.FileConfigSource):
    """A configuration folder whose experiments may name arms."""

    @staticmethod
    def scheme() -> str:
        return "arms"

    def load_config(self, config_path: str) -> ConfigResult:
        study, arm = self._split(config_path)
        result = super().load_config(study)
        if arm is not None:
            result.config = self._as_file(study, arm)
        elif read_arms(self.path, study):
            del result.config[KEY]
        return result

    def is_group(self, config_path: str) -> bool:
        return super().is_group(config_path) or bool(read_arms(self.path, config_path))

    def is_config(self, config_path: str) -> bool:
        study, _ = self._split(config_path)
        return super().is_config(study)

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        found = super().list(config_path, results_filter) if super().is_group(config_path) else []
        if results_filter is not ObjectType.GROUP:
            found += read_arms(self.path, config_path)
        if results_filter is not ObjectType.CONFIG and config_path == GROUP:
            studies = [path.stem for path in Path(self.path, GROUP).glob("*.yaml")]
            found += [name for name in studies if read_arms(self.path, f"{GROUP}/{name}")]
        return sorted(set(found))

    def _split(self, config_path: str) -> tuple[str, Mapping[str, Any] | None]:
        """The file that a path means, and the arm in it, if it means one."""
        study, _, name = config_path.rpartition("/")
        arm = read_arms(self.path, study).get(name)
        return (config_path, None) if arm is None else (study, arm)

    def _as_file(self, study: str, arm: Mapping[str, Any]) -> DictConfig:
        """What a file of the arm's own would hold."""
        from minesweep.config.overrides import is_group  # here: it brings the schema

        parent = f"{GROUP}/{arm[GROUP]}" if GROUP in arm else study
        defaults: list[Any] = [f"/{parent}@_global_"]
        config = OmegaConf.create()
        for key, value in arm.items():
            group = key.partition("@")[0]
            if group == GROUP:
                continue
            if isinstance(value, str) and is_group(group, (self.path,)):
                defaults.append({f"override /{key}": value})
            else:
                OmegaConf.update(config, key, value)
        config["defaults"] = defaults
        return config


class ArmsSearchPath(SearchPathPlugin):
    """Reads the project's configuration folder, and a user's beside it, by ``ArmsSource``.

    Other applications of Hydra are left as they are.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        from minesweep.config.overrides import user_folders  # here: it brings the schema

        for place in list(search_path.get_path()):
            path = (place.path or "").removeprefix("file://")
            if place.provider == "main" and Path(path).resolve() == CONF:
                place.path = f"{ArmsSource.scheme()}://{path}"
                for folder in user_folders(sys.argv[1:]):
                    search_path.append("arms", f"{ArmsSource.scheme()}://{folder}")
