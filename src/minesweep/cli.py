"""The command ``minesweep``: each of the entries, from any folder."""

from __future__ import annotations

import os
import runpy
import shutil
import sys
from pathlib import Path

from minesweep.config.places import ENTRIES, TEMPLATE

COMMANDS = {
    "train": "train one run: minesweep train dataset=digits",
    "sweep": "run a sweep file, or one of the package by its name: minesweep sweep does_it_help",
    "report": "report a study or a run: minesweep report runs/nk",
    "dashboard": "a page over all runs",
    "mine": "mine hard negatives of a file once",
    "init": "write a folder with a dataset, a model, a miner, a sweep and a test of your own",
}
COMPLETION = ("-sc", "--shell-completion")


def main() -> None:
    """Runs one command; ``minesweep NAME --help`` tells its options."""
    words = sys.argv[1:]
    if words and words[0] in COMPLETION:
        words = _complete(words)
    if not words or words[0] in ("-h", "--help"):
        print("usage: minesweep COMMAND ...\n")
        print("\n".join(f"  {name:10} {text}" for name, text in COMMANDS.items()))
        print("\nminesweep COMMAND --help tells the options of a command.")
        sys.exit(0 if words else 2)
    name, *rest = words
    if name not in COMMANDS:
        from minesweep.words import nearest

        sys.exit(f"minesweep: no command '{name}'{nearest(name, COMMANDS)}")
    if name == "init":
        sys.exit(init(rest))
    sys.argv = [f"minesweep {name}", *rest]
    runpy.run_path(str(ENTRIES / f"{name}.py"), run_name="__main__")


def _complete(words: list[str]) -> list[str]:
    """Lets Hydra complete what follows ``minesweep train``; completes the commands itself."""
    line = os.environ.get("COMP_LINE", "")
    typed = line.split()
    if "query" in " ".join(words) and (len(typed) < 2 or (len(typed) == 2 and line[-1:] != " ")):
        print("\n".join(name for name in COMMANDS if name.startswith("".join(typed[1:2]))))
        sys.exit(0)
    # Hydra knows one command: the line that it sees is `minesweep KEY=VALUE ...`.
    os.environ["COMP_LINE"] = line.replace(" train ", " ", 1)
    return ["train", *words]


def init(words: list[str]) -> str | int:
    """Writes a small working folder.

    Args:
        words: Where to write it.

    Returns:
        The exit status, or what is wrong.
    """
    if len(words) != 1 or words[0].startswith("-"):
        print("usage: minesweep init FOLDER\n\nwrites a dataset, a model, a miner, a sweep file")
        print("and a test into a new folder; its README says how to run them")
        return 0 if words in (["-h"], ["--help"]) else 2
    folder = Path(words[0]).expanduser()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        return f"minesweep: {folder} exists and is not empty: name a new folder"
    try:
        shutil.copytree(
            TEMPLATE, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    except OSError as error:
        return f"minesweep: {folder} cannot be written: {error.strerror or error}"
    print((folder / "README.md").read_text())
    return 0
