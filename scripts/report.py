"""The command of lclipseg/lab/comparisons/report.py."""

from lclipseg.lab.comparisons.report import command

if __name__ == "__main__":
    command()
