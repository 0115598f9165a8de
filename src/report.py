"""Reports a study: ``python src/report.py runs/nk`` prints a table and writes one HTML page.

Of a folder of studies, ``python src/report.py runs``, it reports each. Of one run,
``python src/report.py runs/nk/<run>``, it writes the page of what was mined.
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
    parser.add_argument(
        "folder",
        type=Path,
        help="a study such as runs/nk, a folder of studies such as runs, or one run",
    )
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
        return of_run(options) if is_run(options.folder) else of_studies(options)
    except UserError as error:
        return tell(error)
    except OSError as error:  # a path that cannot be read, made or written
        return tell(UserError(f"{str(error.filename)[:200]}: {error.strerror}"))


def tell(error: UserError) -> int:
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


def of_studies(options: argparse.Namespace) -> int:
    """The table, figures and page of a study, or of each study in a folder."""
    from minesweep.reporting.read.study import study_folders

    studies = study_folders(options.folder)
    if studies == [options.folder]:
        return of_study(options.folder, options)
    for name in ("baseline", "metric", "group_by", "output"):
        if getattr(options, name) is not None:
            option = "--" + name.replace("_", "-")
            raise UserError(
                f"{option} is for one study; {options.folder} holds {len(studies)}: name one, "
                f"such as {studies[0]}"
            )
    failed = 0
    for study in studies:
        try:
            of_study(study, options)
        except UserError as error:  # a study without a finished run does not end the others
            failed = tell(error)
    return failed


def of_study(folder: Path, options: argparse.Namespace) -> int:
    """The study's table, figures and page."""
    # Imported here: --help and a wrong option must answer at once.
    from minesweep.dashboard.headline import send_headline
    from minesweep.reporting.analyse.report import analyse
    from minesweep.reporting.show.tables import print_report
    from minesweep.reporting.show.write import keep, write
    from minesweep.tracking.embeddings_page import write_outdated

    result = analyse(folder, options.baseline, options.metric, options.group_by)
    files = write(result, options.output)
    if options.keep:
        files.extend(keep(result, options.keep))
    files.extend(write_outdated(folder))
    print_report(result, files)
    if options.output is None and (line := send_headline(result)):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
