"""`lclipseg evaluate` from a checkout."""

from lclipseg.commands.evaluate import command

if __name__ == "__main__":
    command()
