"""A W&B sweep file, run here: file -> trials -> Hydra launchers. Imports no torch, no wandb."""
