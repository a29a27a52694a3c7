"""Image files that an annotation names outside of the folder that it belongs to."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable

from tfdet.data.annotations import AnnotationSet
from tfdet.data.listing import RealPaths
from tfdet.data.problems import ProblemReport


def leave_out_outside(
    annotations: AnnotationSet, folders: Iterable[str | os.PathLike], report: ProblemReport
) -> AnnotationSet:
    """The annotation set without the images whose files lie outside of all folders, links followed.

    An annotation file can name any file of the machine; its picture would go into a data set, which is passed on.

    Args:
        annotations: with the paths of the images.
        folders: the image folders that a person named.
        report: is told what is left out.

    Returns:
        The images that are inside, and those whose pixels are in memory.
    """
    roots = [os.path.realpath(folder) for folder in folders]
    real_path = RealPaths()

    def is_inside(path: str) -> bool:
        real = real_path(path)
        return any(real.startswith(root.rstrip(os.sep) + os.sep) for root in roots)

    kept = []
    for image in annotations.images:
        path = None if image.path is None else os.fspath(image.path)
        if path is None or "\0" in path or is_inside(path):
            kept.append(image)
        else:
            reason = f"its file {image.path} lies outside of the image folder; --allow_outside takes such files"
            report.add("file outside", image.file_name, image.image_id, reason, "image left out")
    return dataclasses.replace(annotations, images=kept)
