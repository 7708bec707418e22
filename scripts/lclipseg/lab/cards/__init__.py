"""Model cards and the table of presets, from records."""
