"""`lclipseg check-data` from a checkout."""

from lclipseg.commands.check_data import command

if __name__ == "__main__":
    command()
