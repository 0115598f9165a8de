"""The page over all runs: ``runs/index.html``, one file that needs no network and no server."""

from __future__ import annotations

import shlex
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from minesweep import __version__
from minesweep.config.places import command
from minesweep.dashboard.scan import STATES, RunLine, Scan, moment, scan
from minesweep.files import write_atomically
from minesweep.pages import clean, environment
from minesweep.units import DASH, unit, words

PAGE = "index.html"
MOST_RUNS, LEAST_OF_STUDY = 2_000, 20
"""How many runs the page lists, and how many of each study in any case."""
AMISS = ("failed", "stopped", "unreadable")


def write_index(folder: Path, tensorboard: str = "") -> Path:
    """Writes the page over the runs in ``folder``.

    Args:
        folder: Where the runs lie, ``runs``.
        tensorboard: The address of a TensorBoard over the same folder; empty for none.

    Raises:
        UserError: There is no such folder.
    """
    page = render(scan(folder), tensorboard)
    write_atomically(folder / PAGE, page)
    return folder / PAGE


def render(found: Scan, tensorboard: str = "") -> str:
    """The page as HTML; every text in it is escaped, every link of a run is relative."""
    listed = _listed(found.runs)
    left_out = [f"{count} {what}" for what, count in found.left_out.items()]
    if skipped := sum(run.skipped for run in found.runs):
        left_out.append(f"{skipped} damaged lines of journals")
    return (
        environment(Path(__file__).parent)
        .get_template("index.html.j2")
        .render(
            answer=_answer(found.runs),
            studies=_studies(found),
            runs=[_row(run, tensorboard) for run in listed],
            more=_more(len(listed), len(found.runs)),
            states=[state for state in STATES if any(run.state == state for run in found.runs)],
            without=_without_page(found),
            report=command("report"),
            left_out=", ".join(left_out),
            tensorboard=tensorboard,
            made=f"{moment(time.time()):%Y-%m-%d %H:%M:%S %Z}",
            version=f"minesweep {__version__}",
        )
    )


def _listed(runs: list[RunLine]) -> list[RunLine]:
    """All runs; of very many the first of each study: those that are not finished, the newest."""
    if len(runs) <= MOST_RUNS:
        return runs
    most = max(LEAST_OF_STUDY, MOST_RUNS // len({run.study for run in runs}))
    held: Counter[str] = Counter()
    kept = []
    for run in runs:
        held[run.study] += 1
        if held[run.study] <= most:
            kept.append(run)
    return kept


def _more(listed: int, count: int) -> str:
    if listed == count:
        return ""
    return f"{listed:,} of {count:,} runs are listed: of each study those not finished, the newest."


def _answer(runs: list[RunLine]) -> str:
    if not runs:
        return f"No run yet: {command('train')} makes one."
    counts = Counter(run.state for run in runs)
    told = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    studies = len({run.study for run in runs})
    return f"{len(runs):,} runs in {studies} {'study' if studies == 1 else 'studies'}: {told}."


def _studies(found: Scan) -> list[dict[str, Any]]:
    by_study: dict[str, list[RunLine]] = {}
    for run in found.runs:
        by_study.setdefault(run.study, []).append(run)
    return [_study(name, runs, found) for name, runs in sorted(by_study.items())]


def _without_page(found: Scan) -> str:
    """The first study that has no page, as one would name it in a shell; empty if all have."""
    names = sorted({run.study for run in found.runs} - set(found.reports))
    return shown(shlex.quote(f"{found.folder}/{names[0]}")) if names else ""


def _study(name: str, runs: list[RunLine], found: Scan) -> dict[str, Any]:
    counts = Counter(run.state for run in runs)
    # Runs of one study nearly always agree in what they are judged by.
    metric = Counter(run.metric for run in runs if run.best is not None).most_common(1)
    rated = [run for run in runs if run.best is not None and run.metric == metric[0][0]]
    # A checkpoint is always chosen by a value of which more is better.
    best = max(rated, key=lambda run: run.best or 0.0, default=None)
    return {
        "name": shown(name),
        "link": urlencode({"": shown(name)})[1:],
        "runs": len(runs),
        "running": counts["running"],
        "finished": counts["finished"],
        "failed": sum(counts[state] for state in AMISS),
        "best": unit(best.metric).value(best.best) if best and best.best is not None else DASH,
        "best_run": shown(f"{words(best.metric)}, {best.name}") if best else "",
        "page": _link(name, "report", "report.html") if name in found.reports else "",
        "old": found.reports.get(name, False),
    }


def _row(run: RunLine, tensorboard: str) -> dict[str, Any]:
    share = min(1.0, run.step / run.steps) if run.step is not None and run.steps else None
    planned = f" of {run.steps:,}" if run.steps is not None else ""
    links = []
    if run.mined:
        links.append(("what was mined", _link(run.study, run.name, "mined.html")))
    if run.embeddings:
        links.append(("embeddings", _link(run.study, run.name, "embeddings.html")))
    if tensorboard and run.tensorboard:
        wanted = urlencode({"runFilter": f"{run.study}/{run.name}"})
        links.append(("TensorBoard", f"{tensorboard}?{wanted}#timeseries"))
    if _is_web(run.wandb):
        links.append(("W&B", run.wandb))
    u = unit(run.metric)
    return {
        "study": shown(run.study),
        "name": shown(run.name),
        "link": _link(run.study, run.name, ""),
        "links": links,
        "state": run.state,
        "reason": shown(run.reason),
        "progress": DASH if run.step is None else f"{run.step:,}{planned}",
        "share": "" if share is None else f"{share:.4f}",
        "bar": share is not None and run.state != "finished",
        "metric": shown(words(run.metric)) if run.best is not None else "",
        "best": DASH if run.best is None else u.value(run.best),
        "best_value": "" if run.best is None else repr(run.best),
        "test": DASH if run.test is None else u.value(run.test),
        "left": duration(run.left) if run.state == "running" else "",
        "left_value": "" if run.left is None else f"{run.left:.0f}",
        "seconds": duration(run.seconds),
        "seconds_value": "" if run.seconds is None else f"{run.seconds:.0f}",
        "updated": f"{moment(run.updated):%Y-%m-%d %H:%M}",
        "updated_value": f"{run.updated:.0f}",
    }


def _link(*names: str) -> str:
    """A relative link; ``./`` keeps a colon in a name from being read as a scheme."""
    return "./" + "/".join(quote(name, safe="", errors="surrogateescape") for name in names)


def _is_web(url: str) -> bool:
    """Whether it is an address of the web, and not a script."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("https", "http") and bool(parts.hostname)


def shown(text: str) -> str:
    """Printable, and text in UTF-8 also where a folder's name is not."""
    return clean(text.encode(errors="surrogatepass").decode(errors="replace"))


def duration(seconds: float | None) -> str:
    """``45 s``, ``12 min``, ``3.4 h``, ``2.1 days``; a dash for None."""
    if seconds is None:
        return DASH
    for size, name in ((86_400, "days"), (3_600, "h")):
        if seconds >= size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"
