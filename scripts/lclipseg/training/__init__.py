"""A run: steps, state, folder, signals."""
