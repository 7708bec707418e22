"""`lclipseg suggest` from a checkout."""

from lclipseg.commands.suggest import command

if __name__ == "__main__":
    command()
