"""The command of lclipseg/lab/comparisons/reproduce.py."""

from lclipseg.lab.comparisons.reproduce import command

if __name__ == "__main__":
    command()
