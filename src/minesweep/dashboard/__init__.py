"""Pages beside those of studies: all of runs/, what a run mined, and W&B by code."""
