"""Labelled images from where they lie to augmented samples."""
