"""The report of a study: statistics over seeds, tables, figures, one page."""
