"""What is read back: statistics over seeds, tables, figures, one page per study."""
