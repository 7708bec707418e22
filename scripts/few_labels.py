"""The command of lclipseg/lab/comparisons/few_labels.py."""

from lclipseg.lab.comparisons.few_labels import command

if __name__ == "__main__":
    command()
