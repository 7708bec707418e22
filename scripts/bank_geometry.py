"""The command of lclipseg/lab/words/bank_geometry.py."""

from lclipseg.lab.words.bank_geometry import command

if __name__ == "__main__":
    command()
