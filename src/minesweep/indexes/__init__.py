"""Where the hard pairs lie: nearest rows of another class, furthest rows of the same class."""
