"""How long networks take, ours and others'."""
