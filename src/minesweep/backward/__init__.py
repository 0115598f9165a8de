"""Learning from k of n scored rows for the price of k: two passes, and which way to go."""
