"""The command of lclipseg/lab/timing/benchmark.py."""

from lclipseg.lab.timing.benchmark import command

if __name__ == "__main__":
    command()
