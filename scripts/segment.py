"""`lclipseg segment` from a checkout."""

from lclipseg.commands.segment import command

if __name__ == "__main__":
    command()
