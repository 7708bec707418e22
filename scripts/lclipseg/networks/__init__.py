"""From a preset or a checkpoint to a network."""
