"""The command of lclipseg/lab/words/zero_shot.py."""

from lclipseg.lab.words.zero_shot import command

if __name__ == "__main__":
    command()
