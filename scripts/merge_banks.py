"""`lclipseg merge-banks` from a checkout."""

from lclipseg.commands.merge_banks import command

if __name__ == "__main__":
    command()
