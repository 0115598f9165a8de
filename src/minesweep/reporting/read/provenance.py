"""Versions, devices and data of runs, and whether the runs may stand in one table."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd


def provenance(statuses: Sequence[Mapping[str, Any]]) -> dict[str, Counter[str]]:
    """How many runs hold each value of commit, sources, versions, device, threads and data."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for status in statuses:
        versions = status.get("versions")
        for name, version in sorted(versions.items()) if isinstance(versions, dict) else ():
            counts[f"versions.{name}"][str(version)] += 1
        for name in ("commit", "sources", "device", "threads", "data"):
            counts[name][str(status.get(name))] += 1
    return dict(counts)


def differences(
    statuses: Sequence[Mapping[str, Any]],
    table: pd.DataFrame,
    keys: list[str],
    made: Mapping[str, Counter[str]],
) -> list[str]:
    """A line for each of them that differs within a study, and should not."""
    warnings = []
    for name, held in made.items():
        if len(held) > 1 and name != "data":
            counts = ", ".join(f"{value} ({n} runs)" for value, n in held.most_common(5))
            warnings.append(f"{name} differs within this table: {counts}")
    # Data may differ between settings of the dataset and between seeds, not within them.
    settings = ["seed", *(key for key in keys if key.split(".")[0] == "dataset")]
    data = pd.Series([str(status.get("data")) for status in statuses], dtype=object)
    kinds = data.groupby([table[key].map(repr) for key in settings]).nunique()
    if differing := int((kinds > 1).sum()):
        warnings.append(
            f"the data's fingerprint differs between runs of the same seed and dataset settings "
            f"({differing} of {len(kinds)} settings): they did not see the same data"
        )
    return warnings
