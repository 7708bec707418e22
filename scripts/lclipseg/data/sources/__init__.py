"""Data sets as their publishers distribute them, read by tables and file patterns that stand in configuration/datasets."""
