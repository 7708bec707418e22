"""`lclipseg publish` from a checkout."""

from lclipseg.commands.publish import command

if __name__ == "__main__":
    command()
