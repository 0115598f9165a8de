"""The loop, checkpoints, and what a run leaves behind."""
