"""The command of lclipseg/lab/timing/graph_profile.py."""

from lclipseg.lab.timing.graph_profile import command

if __name__ == "__main__":
    command()
