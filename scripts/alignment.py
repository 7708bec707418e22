"""The command of lclipseg/lab/words/alignment.py."""

from lclipseg.lab.words.alignment import command

if __name__ == "__main__":
    command()
