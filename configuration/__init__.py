"""Presets, recipes, data sets, cards: YAML files and texts. Installed as `lclipseg.configuration`."""
