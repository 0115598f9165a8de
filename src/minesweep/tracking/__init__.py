"""Where a run's record goes: the journal always; TensorBoard and W&B, which only consume rows."""
