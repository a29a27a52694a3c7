"""A synthetic detection data set: circles, squares and triangles drawn on textured backgrounds."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw

from tfdet.data.annotations import AnnotationSet, Category, ImageAnnotation, ObjectAnnotation
from tfdet.data.rle import counts_from_mask, counts_to_string

CATEGORIES = (Category(1, "circle"), Category(2, "square"), Category(3, "triangle"))
_MAX_OBJECTS = 5
_MAX_OVERLAP = 0.05  # part of the smaller of two boxes that the other may cover
_CIRCLE_POINTS = 64
_MIN_CONTRAST = 90.0  # distance in RGB between a shape and the mean of the background


def draw_shapes(
    num_images: int, height: int, width: int, seed: int, first_id: int = 1, portrait_fraction: float = 0.25
) -> AnnotationSet:
    """Draws a set of images. The same arguments give the same images.

    Args:
        num_images: how many.
        height, width: image size in pixels; a portrait image has them exchanged.
        seed: decides everything random.
        first_id: id of the first image.
        portrait_fraction: part of the images that is turned to portrait.

    Returns:
        The set; images are JPEGs in memory, boxes enclose the drawn pixels, `area` counts them. Masks are those of the
        whole shape, also where a later one covers a little of it: circles are polygons, squares two polygons side by
        side, triangles compressed RLEs, so that training on shapes meets every kind.
    """
    images = []
    for image_id in range(first_id, first_id + num_images):
        random = np.random.default_rng([seed, image_id])
        size = (width, height) if random.random() < portrait_fraction else (height, width)
        images.append(_draw_image(random, image_id, *size))
    return AnnotationSet(list(CATEGORIES), images)


def _draw_image(random, image_id: int, height: int, width: int) -> ImageAnnotation:
    pixels, background = _texture(random, height, width)
    objects: list[ObjectAnnotation] = []
    for _ in range(int(random.integers(1, _MAX_OBJECTS + 1))):
        category = CATEGORIES[int(random.integers(len(CATEGORIES)))]
        for _ in range(20):  # tries to find a free place
            mask = _shape_mask(random, category.name, height, width)
            item = _annotate(mask, category)
            if not any(_overlap(item, other) > _MAX_OVERLAP for other in objects):
                pixels[mask] = _colour(random, background)
                objects.append(item)
                break
    noisy = pixels.astype(np.float32) + random.normal(0.0, 6.0, pixels.shape)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(buffer, format="JPEG", quality=92)
    return ImageAnnotation(image_id, f"shapes_{image_id:06d}.jpg", None, height, width, objects, buffer.getvalue())


def _texture(random, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A blotchy background uint8 [H, W, 3] and its mean colour."""
    mean = random.uniform(60, 200, 3)
    blotches = np.clip(mean + random.normal(0, 25, (6, 8, 3)), 0, 255).astype(np.uint8)
    return np.array(Image.fromarray(blotches).resize((width, height), Image.Resampling.BICUBIC)), mean


def _colour(random, background: np.ndarray) -> np.ndarray:
    while True:
        colour = random.uniform(0, 255, 3)
        if np.linalg.norm(colour - background) >= _MIN_CONTRAST:
            return colour.astype(np.uint8)


def _shape_mask(random, kind: str, height: int, width: int) -> np.ndarray:
    """Pixels of one shape, wholly inside the image: bool [H, W]."""
    short = min(height, width)
    size = float(random.uniform(max(8.0, short / 8), short / 2.2))
    left, top = float(random.uniform(0, width - 1 - size)), float(random.uniform(0, height - 1 - size))
    canvas = Image.new("1", (width, height))
    draw = ImageDraw.Draw(canvas)
    if kind == "circle":
        draw.ellipse([left, top, left + size, top + size], fill=1)
    elif kind == "square":
        draw.rectangle([left, top, left + size, top + size], fill=1)
    else:
        apex = left + size * float(random.uniform(0.25, 0.75))
        draw.polygon([(apex, top), (left, top + size), (left + size, top + size)], fill=1)
    return np.array(canvas)


def _annotate(mask: np.ndarray, category: Category) -> ObjectAnnotation:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = float(columns[0]), float(rows[0])
    width, height = float(columns[-1]) + 1 - x, float(rows[-1]) + 1 - y
    segmentation = _segmentation(mask, category.name, x, y, width, height)
    return ObjectAnnotation(x, y, width, height, category.id, float(mask.sum()), segmentation=segmentation)


def _segmentation(mask: np.ndarray, kind: str, x: float, y: float, width: float, height: float):
    """The mask of a shape with the given box as COCO writes it."""
    if kind == "circle":
        angles = np.linspace(0, 2 * np.pi, _CIRCLE_POINTS, endpoint=False)
        points = [x + width / 2 * (1 + np.cos(angles)), y + height / 2 * (1 + np.sin(angles))]
        return [np.round(np.stack(points, axis=-1), 2).ravel().tolist()]
    if kind == "square":
        left, middle, right, bottom = x, x + width // 2, x + width, y + height
        return [[a, y, b, y, b, bottom, a, bottom] for a, b in ((left, middle), (middle, right))]
    return {"size": list(mask.shape), "counts": counts_to_string(counts_from_mask(mask))}


def _overlap(a: ObjectAnnotation, b: ObjectAnnotation) -> float:
    width = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    height = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    return max(0.0, width) * max(0.0, height) / min(a.width * a.height, b.width * b.height)
