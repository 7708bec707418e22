"""Data sets as their publishers distribute them, read by the tables and patterns of configuration/datasets."""
