"""What each augmentation costs: images of a data set that a second of processor time makes ready for training.

python -m tools.augmentation_cost data/bccd_train --short_side=480 --long_side=640
python -m tools.augmentation_cost data/coco_val --masks
"""

from __future__ import annotations

import argparse
import time

from tfdet.data.augmentation.augmentation import Augmentation
from tfdet.data.augmentation.color import ColorJitter
from tfdet.data.augmentation.copy_paste import CopyPaste
from tfdet.data.augmentation.crop import RandomIoUCrop
from tfdet.data.augmentation.mosaic import Mosaic
from tfdet.data.inputs import TrainInput


def augmentations(masks: bool) -> dict[str, Augmentation | None]:
    """What is measured, by name: each by itself with its defaults, then all together."""
    pasting = {"copy-paste": Augmentation(copy_paste=CopyPaste())} if masks else {}
    return {
        "none": None,
        "vertical flip": Augmentation(vertical_flip=0.5),
        "quarter turns": Augmentation(quarter_turns=0.75),
        "crop": Augmentation(crop=RandomIoUCrop()),
        "colour": Augmentation(color=ColorJitter()),
        "mosaic": Augmentation(mosaic=Mosaic()),
        **pasting,
        "all": Augmentation(Mosaic(), CopyPaste() if masks else None, RandomIoUCrop(), 0.5, 0.75, ColorJitter()),
    }


def measure(train_input: TrainInput, images: int) -> tuple[float, float]:
    """Processor seconds to the first batch, and images a processor second after it."""
    start = time.process_time()
    batches = iter(train_input.dataset())
    next(batches)
    first = time.process_time()
    for _ in range(images // train_input.images_per_replica):
        next(batches)
    return first - start, images / (time.process_time() - first)


def main() -> None:
    """Prints a line for each augmentation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="data set folder")
    parser.add_argument("--short_side", type=int, default=800)
    parser.add_argument("--long_side", type=int, default=1333)
    parser.add_argument("--masks", action="store_true", help="read masks, and measure copy-paste")
    parser.add_argument("--images", type=int, default=200, help="images that are measured (default: 200)")
    args = parser.parse_args()
    sides = {"short_side": args.short_side, "long_side": args.long_side, "masks": args.masks}
    for name, augmentation in augmentations(args.masks).items():
        start, speed = measure(TrainInput(args.data, augmentation=augmentation, **sides), args.images)
        print(f"{name:14s} {speed:6.1f} images a processor second, first batch after {start:4.1f} s", flush=True)


if __name__ == "__main__":
    main()
