"""The import graph in numbers: ``python tests/imports.py`` (of another checkout: its ``src``)."""

from __future__ import annotations

import sys
from pathlib import Path

import grimp
import networkx

SRC = Path(__file__).parents[1] / "src"


def build(src: Path = SRC, package: str = "minesweep") -> grimp.ImportGraph:
    """The graph of all imports: at the top of a file, in a function, and for types alone."""
    sys.path.insert(0, str(src))
    try:
        return grimp.build_graph(package, cache_dir=None)
    finally:
        sys.path.remove(str(src))


def circles(graph: grimp.ImportGraph) -> list[list[str]]:
    """The groups of files each of which reaches all others of its group by imports."""
    arrows = networkx.DiGraph(
        (importer, imported)
        for importer in graph.modules
        for imported in graph.find_modules_directly_imported_by(importer)
    )
    groups = networkx.strongly_connected_components(arrows)
    return sorted(sorted(group) for group in groups if len(group) > 1)


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def main(src: Path) -> None:
    graph = build(src)
    files = {path: lines(path) for path in (src / "minesweep").rglob("*.py")}
    longest = max(files, key=files.__getitem__)
    reporting = [p for p in (src / "minesweep/reporting").rglob("*") if p.is_file()]
    of_reporting = sum(lines(p) for p in reporting if "__pycache__" not in p.parts)
    print(f"modules              {len(graph.modules):,}")
    print(f"arrows               {graph.count_imports():,}")
    print(f"circles              {[len(circle) for circle in circles(graph)]}")
    print(f"lines of Python      {sum(files.values()):,}")
    print(f"longest file         {longest.relative_to(src)}, {files[longest]} lines")
    print(f"lines of reporting   {of_reporting:,} with its templates")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else SRC)
