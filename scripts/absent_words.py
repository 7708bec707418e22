"""The command of lclipseg/lab/words/absent_words.py."""

from lclipseg.lab.words.absent_words import command

if __name__ == "__main__":
    command()
