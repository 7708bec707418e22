"""The commands of LClipSeg: each file is one command, `python scripts/NAME.py --help`."""
