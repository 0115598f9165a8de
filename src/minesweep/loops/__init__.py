"""Learning from the hard examples in a training loop that is not Minesweep's."""
