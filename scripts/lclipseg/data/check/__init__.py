"""Everything that is wrong with a data set, found before training."""
