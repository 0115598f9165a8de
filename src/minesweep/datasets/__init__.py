"""Datasets: one file each, named by ``_target_`` in a YAML file of the group ``dataset``.

This package imports nothing by itself, so that ``minesweep.datasets.options`` can check a
configuration before torch is loaded.
"""
