"""Means, intervals, paired differences and sequential looks: arrays and tidy tables alone."""
