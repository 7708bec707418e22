"""Segment images, videos or a camera with a checkpoint, into its own classes or into others given as words.

    lclipseg segment photos/ street.jpg "more/*.png" --model lclipseg/lclipseg-mbv3 --classes "sky, road, car"
    lclipseg segment drive.mp4 --model exported --outputs overlay masks shares
    lclipseg segment 0 --model exported --show        # a camera; or rtsp://..., http://...
    lclipseg segment incoming/ --model exported --watch

Writes for each image NAME_overlay.png (the classes in colour, with a legend), NAME_mask.png (the class ids, with a
palette) and NAME.json (size, classes, area shares), and with --annotations one file for all images that a labelling
tool can begin with. Images from a folder keep their sub-folders. A file that cannot be used is reported and the others
go on; the exit status is then 1.

Many images, in two processes, which may run on two machines; what is stopped goes on with --resume true:

    lclipseg segment photos/ --model lclipseg/lclipseg-mbv3 --write masks --share 1/2
    lclipseg segment photos/ --model lclipseg/lclipseg-mbv3 --write masks --share 2/2
    torchrun --nproc_per_node 2 scripts/segment.py photos.parquet --split train --write parquet --model ...

A video gets NAME_overlay.mp4 and NAME_shares.csv. No frame of a file is left out; of a camera or an address, those
that come while a frame is in work are. Ctrl-C ends it after the frame in work, and the files are whole.
"""

import sys

from lclipseg.console import arguments
from lclipseg.console.frame import run_command
from lclipseg.networks.folders import check_at_hand
from lclipseg.video.arguments import VideoArguments
from lclipseg.video.places import is_moving


def parse(argv: list[str] | None = None) -> tuple[list[str], VideoArguments]:
    description = (
        "Files of images or videos, folders of images, quoted glob patterns; or a camera's number or address."
    )
    return arguments.parse_subject(__doc__, VideoArguments, "inputs", description, nargs="+", argv=argv)


def main(inputs: list[str], args: VideoArguments) -> int:
    # Imported when the arguments are known to be right.
    check_at_hand(args.model, args.revision)
    if args.watch:
        from lclipseg.video.watch import watch_folder

        return watch_folder(inputs, args)
    if any(map(is_moving, inputs)):
        from lclipseg.video.run import segment_videos

        return segment_videos(inputs, args)
    from lclipseg.prediction.files import segment_files

    args.check_for_images()
    return segment_files(inputs, args)


def command() -> None:
    run_command(lambda: sys.exit(main(*parse())))


if __name__ == "__main__":
    command()
