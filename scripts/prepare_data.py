"""`lclipseg prepare-data` from a checkout."""

from lclipseg.commands.prepare_data import command

if __name__ == "__main__":
    command()
