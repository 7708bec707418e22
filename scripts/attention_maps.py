"""The command of lclipseg/lab/words/attention_maps.py."""

from lclipseg.lab.words.attention_maps import command

if __name__ == "__main__":
    command()
