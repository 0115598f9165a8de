"""What is read back: statistics over seeds, tables, figures, one page per study."""

from minesweep.reporting.build import Report, report

__all__ = ["Report", "report"]
