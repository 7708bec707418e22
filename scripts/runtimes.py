"""The command of lclipseg/lab/timing/runtimes.py."""

from lclipseg.lab.timing.runtimes import command

if __name__ == "__main__":
    command()
