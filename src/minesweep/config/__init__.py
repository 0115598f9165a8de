"""Composing, checking and naming a configuration. Imports neither torch nor wandb."""
