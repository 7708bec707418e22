"""The command of lclipseg/lab/cards/cards.py."""

from lclipseg.lab.cards.cards import command

if __name__ == "__main__":
    command()
