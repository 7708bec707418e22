"""`lclipseg embed` from a checkout."""

from lclipseg.commands.embed import command

if __name__ == "__main__":
    command()
