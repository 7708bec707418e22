"""The command of lclipseg/lab/words/other_words.py."""

from lclipseg.lab.words.other_words import command

if __name__ == "__main__":
    command()
