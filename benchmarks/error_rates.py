"""How often ``--until-sure`` is wrong, and what it costs, beside fixed numbers of seeds.

    python benchmarks/error_rates.py       # two minutes; writes results/error_rates.json and .md

Simulated studies of m arms, each compared with its baseline on the same seeds. The differences are
normal, or drawn from those of real runs that ``results/`` stores, less their mean. Where an arm
changes nothing, a coin decides which of the two runs is called the arm: the sign of each difference
is drawn. "As they lie" keeps the signs, and with them the skewness. An effect is in units of the
standard deviation, which is also the smallest difference that matters.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import RESULTS, facts, options, write
from scipy.special import stdtrit

from minesweep.config.entry import clear_errors
from minesweep.errors import UserError
from minesweep.files import write_atomically
from minesweep.reporting.show.tables import Table, to_markdown
from minesweep.statistics.sequential import ALPHA, LOOKS, Rule, nominal_levels

STUDIES, ARMS, EFFECTS, FIXED = 20_000, (1, 3, 6), (0.0, 0.5, 1.0, 2.0), (5, 10)
METRIC = "test/accuracy"
STORED = {
    "digits": ("seeds_digits",),
    "mnist": ("nk", "nk_controlled", "nk_noise", "does_it_help_mnist"),
}
"""Studies whose differences are drawn from, by data."""


@dataclass(frozen=True)
class Rates:
    """What one rule did in many studies.

    Attributes:
        wrong: Share of the studies in which an arm without an effect, or any arm against its
            effect, was answered with helps or costs.
        helps: Share of the comparisons that were.
        same: Share that was answered with no difference.
        seeds: Mean number of seeds of an arm.
    """

    wrong: float
    helps: float
    same: float
    seeds: float


def main(argv: list[str] | None = None) -> None:
    parser = options(str(__doc__), "error_rates", rounds=1)
    parser.add_argument("--studies", type=int, default=STUDIES)
    given = parser.parse_args(argv)
    details = measure(given)
    write(given.output, [], details, note=given.note, **facts())
    write_atomically(given.output.with_suffix(".md"), to_markdown(as_table(details)) + "\n")


def measure(given: argparse.Namespace) -> list[dict[str, Any]]:
    """One entry for each kind of differences, number of arms, effect and rule."""
    found = []
    real = pools(RESULTS)
    kinds = {"normal": None, **real, **{f"{data}, as they lie": d for data, d in real.items()}}
    for kind, pool in kinds.items():
        for arms in ARMS:
            for effect in EFFECTS:
                rng = np.random.default_rng([arms, int(10 * effect), len(kind)])
                d = draw(rng, pool, given.studies, arms, LOOKS[-1], kind in real) + effect
                rules = {"until sure": rule_of(LOOKS, arms)}
                # One look: the t-test, with the same correction.
                rules |= {f"fixed {n}": rule_of((n,), arms) for n in FIXED}
                for name, rule in rules.items():
                    rates = judge(d, rule, effect)
                    entry = {"differences": kind, "arms": arms, "effect": effect, "rule": name}
                    found.append({**entry, **vars(rates)})
                    print(*found[-1].values(), flush=True)
    return found


def rule_of(looks: tuple[int, ...], arms: int) -> Rule:
    """The rule of a study of so many arms. A difference of one standard deviation matters."""
    return Rule(looks, nominal_levels(looks, ALPHA / arms), care=1.0)


def pools(results: Path) -> dict[str, np.ndarray]:
    """Differences of real runs by data, ``[differences, arms]``, of mean 0 and variance 1.

    Raises:
        UserError: The runs are not stored.
    """
    found = {}
    for data, studies in STORED.items():
        # Arms that share their seeds stay side by side; those of several studies are mixed.
        tables = [stored_differences(results, study) for study in studies]
        alone = [d.reshape(-1, 1) for d in tables] if len(tables) > 1 else tables
        pool = np.concatenate(alone)
        found[data] = pool / np.sqrt(np.square(pool).mean(axis=0))
    return found


def stored_differences(results: Path, study: str) -> np.ndarray:
    """Each arm's differences to its baseline by seed, ``[seeds, arms]``, less their mean.

    They are in units of the study's typical standard deviation, so that arms that scatter more than
    others still do. The factor makes up for the mean that was taken away.

    Raises:
        UserError: The study is not stored.
    """
    paths = [results / f"{study}_{part}.csv" for part in ("runs", "differences")]
    for path in paths:
        if not path.exists():
            raise UserError(f"{path} is missing: python src/report.py --keep results writes it")
    runs, pairs = map(pd.read_csv, paths)
    table = runs.pivot(index="seed", columns="arm", values=METRIC).dropna()
    pairs = pairs[pairs["measure"] == METRIC]
    d = np.stack(
        [
            table[arm] - table[base]
            for arm, base in zip(pairs["arm"], pairs["baseline"], strict=True)
        ],
        axis=1,
    )
    d = (d - d.mean(axis=0)) * np.sqrt(len(d) / (len(d) - 1))
    return d / np.sqrt(np.square(d).mean())


def draw(
    rng: np.random.Generator,
    pool: np.ndarray | None,
    studies: int,
    arms: int,
    seeds: int,
    signs: bool = False,
) -> np.ndarray:
    """``[studies, arms, seeds]`` of mean 0, variance 1: normal, or a pool's rows with replacement.

    Real differences of two arms on one seed stay together; further pairs of arms are drawn anew.
    ``signs``: their common sign is drawn, too.
    """
    if pool is None:
        return rng.standard_normal((studies, arms, seeds))
    together = -(-arms // pool.shape[1])
    rows = rng.integers(len(pool), size=(studies, together, seeds))
    picked = pool[rows]
    if signs:
        picked = picked * rng.choice((-1, 1), size=(*rows.shape, 1))
    drawn = np.moveaxis(picked, -1, 2)
    return drawn.reshape(studies, -1, seeds)[:, :arms]


def judge(d: np.ndarray, rule: Rule, effect: float) -> Rates:
    """Applies the rule to every study at once; ``minesweep`` decides one comparison at a time."""
    helps, costs, same = (np.zeros(d.shape[:2], dtype=bool) for _ in range(3))
    seeds = np.full(d.shape[:2], rule.looks[-1])
    running = np.ones(d.shape[:2], dtype=bool)
    assert rule.care is not None
    for n, level in zip(rule.looks, rule.levels, strict=True):
        mean, sd = d[..., :n].mean(axis=-1), d[..., :n].std(axis=-1, ddof=1)
        half = -stdtrit(n - 1, level / 2) * sd / np.sqrt(n)
        # As the rule has it: without a spread nothing is known.
        known = running & (sd > 0)
        low, high = mean - half, mean + half
        helps |= known & (low > 0)
        costs |= known & (high < 0)
        same |= known & (low > -rule.care) & (high < rule.care) & ~helps & ~costs
        ended = running & (helps | costs | same)
        seeds[ended] = n
        running &= ~ended
    wrong = (costs if effect > 0 else helps | costs).any(axis=1)
    return Rates(*(float(x.mean()) for x in (wrong, helps, same, seeds)))


def as_table(details: list[dict[str, Any]]) -> Table:
    """One row for each kind of differences, number of arms and rule."""
    columns = ["differences", "arms", "rule", "wrong, no effect", "same, no effect"]
    columns += [f"helps at {effect:g} sd" for effect in EFFECTS[1:]]
    columns += [f"seeds at {effect:g} sd" for effect in EFFECTS]
    rows = []
    for key in dict.fromkeys((e["differences"], e["arms"], e["rule"]) for e in details):
        by_effect = {
            e["effect"]: e for e in details if (e["differences"], e["arms"], e["rule"]) == key
        }
        none = by_effect[0.0]
        shares = [none["wrong"], none["same"], *(by_effect[e]["helps"] for e in EFFECTS[1:])]
        told = [f"{100 * share:.1f} %" for share in shares]
        told += [f"{by_effect[e]['seeds']:.1f}" for e in EFFECTS]
        rows.append([*map(str, key), *told])
    return Table("How often it is wrong, and what it costs", columns, rows)


if __name__ == "__main__":
    with clear_errors():
        main()
