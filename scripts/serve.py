"""`lclipseg serve` from a checkout."""

from lclipseg.commands.serve import command

if __name__ == "__main__":
    command()
