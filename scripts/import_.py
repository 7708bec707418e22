"""`lclipseg import` from a checkout."""

from lclipseg.commands.import_ import command

if __name__ == "__main__":
    command()
