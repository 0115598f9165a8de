"""Reports a study: ``python src/report.py runs/nk`` prints a table and writes one HTML page."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from minesweep.errors import UserError


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Reads the runs of a study and writes tables, figures and one HTML page."
    )
    parser.add_argument("folder", type=Path, help="the study's folder, such as runs/nk")
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
    # Imported here: --help and a wrong option must answer at once.
    from minesweep.reporting.build import report
    from minesweep.reporting.embeddings import write_outdated
    from minesweep.reporting.tables import print_report

    try:
        result = report(
            options.folder,
            options.baseline,
            options.metric,
            options.group_by,
            options.output,
        )
        if options.keep:
            from minesweep.reporting.keep import keep

            result.files.extend(keep(result, options.keep))
        result.files.extend(write_outdated(options.folder))
    except UserError as error:
        print("minesweep: " + " ".join(str(error).split()), file=sys.stderr)
        return 1
    print_report(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
