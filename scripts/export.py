"""`lclipseg export` from a checkout."""

from lclipseg.commands.export import command

if __name__ == "__main__":
    command()
