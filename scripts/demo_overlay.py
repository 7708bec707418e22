"""The command of lclipseg/lab/words/demo_overlay.py."""

from lclipseg.lab.words.demo_overlay import command

if __name__ == "__main__":
    command()
