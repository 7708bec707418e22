"""`lclipseg train` from a checkout."""

from lclipseg.commands.train import command

if __name__ == "__main__":
    command()
