"""The command of lclipseg/lab/cards/model_table.py."""

from lclipseg.lab.cards.model_table import command

if __name__ == "__main__":
    command()
