"""What every command shares: its frame, its options, files people write, the environment a result depends on."""
