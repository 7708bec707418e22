"""The command of lclipseg/lab/load/load.py."""

from lclipseg.lab.load.load import command

if __name__ == "__main__":
    command()
