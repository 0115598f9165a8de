"""Reports a study: ``python src/report.py runs/nk`` prints a table and writes one HTML page.

Of one run, ``python src/report.py runs/nk/<run>``, it writes the page of what was mined.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from minesweep.errors import UserError


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Reads the runs of a study and writes tables, figures and one HTML page."
    )
    parser.add_argument("folder", type=Path, help="a study, such as runs/nk, or one run in it")
    parser.add_argument(
        "--baseline",
        metavar="KEY=VALUE,...",
        help="the arm to compare with, such as miner=random_k or n=512,k=512",
    )
    parser.add_argument("--metric", help="the metric that decides (default: test/accuracy)")
    parser.add_argument(
        "--group-by",
        metavar="KEY,...",
        help="split the table; compare only within a group",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="where to write (default: FOLDER/report)",
    )
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="FOLDER",
        help="also write small result tables here, and into the README beside it",
    )
    options = parser.parse_args(arguments)
    try:
        return (of_run if is_run(options.folder) else of_study)(options)
    except UserError as error:
        print("minesweep: " + " ".join(str(error).split()), file=sys.stderr)
        return 1


def is_run(folder: Path) -> bool:
    return (folder / "status.json").exists()


def of_run(options: argparse.Namespace) -> int:
    """The page of what one run mined."""
    for name in ("baseline", "metric", "group_by", "output", "keep"):
        if getattr(options, name) is not None:
            option = "--" + name.replace("_", "-")
            raise UserError(f"{option} is for a study; {options.folder} is one run")
    from minesweep.dashboard.mined import write_mined

    print(write_mined(options.folder))
    return 0


def of_study(options: argparse.Namespace) -> int:
    """The study's table, figures and page."""
    # Imported here: --help and a wrong option must answer at once.
    from minesweep.reporting.analyse.report import analyse
    from minesweep.reporting.show.tables import print_report
    from minesweep.reporting.show.write import write
    from minesweep.tracking.embeddings_page import write_outdated

    result = analyse(options.folder, options.baseline, options.metric, options.group_by)
    files = write(result, options.output)
    if options.keep:
        from minesweep.reporting.show.keep import keep

        files.extend(keep(result, options.keep))
    files.extend(write_outdated(options.folder))
    print_report(result, files)
    return 0


if __name__ == "__main__":
    sys.exit(main())
