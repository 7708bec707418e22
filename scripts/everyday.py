"""The command of lclipseg/lab/words/everyday.py."""

from lclipseg.lab.words.everyday import command

if __name__ == "__main__":
    command()
