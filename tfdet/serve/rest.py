"""TF Serving's REST format (https://www.tensorflow.org/tfx/serving/api_rest): requests of a detector and answers."""

from __future__ import annotations

import base64
import binascii
from typing import Any, NamedTuple

import numpy as np

from tfdet.data.images import ImageError, image_size
from tfdet.strict_json import parse_json

MAX_IMAGES = 64
"""Of one request."""
SIGNATURES = {"serving_default": "image_bytes", "image_bytes": "image_bytes", "image_tensor": "image_tensor",
              "tf_example": "tf_example"}  # fmt: skip
"""What a request may name, and the function of the model that it is."""
_INPUT = "inputs"  # the one input of every signature


class RequestError(Exception):
    """What is wrong with a request, in one line."""


class Request(NamedTuple):
    """A request that was read."""

    signature: str  # of the model
    inputs: list[bytes] | np.ndarray  # encoded images or records, B; or uint8 [B, H, W, 3]
    by_rows: bool  # the answer is a list of images, not a dict of outputs


def parse_request(body: bytes, max_pixels: int) -> Request:
    """Reads a request.

    Args:
        body: json with `instances` (rows) or `inputs` (columns), and perhaps `signature_name`. An encoded image is
            `{"b64": "..."}`, or that as the one value `inputs` of an instance; an image of `image_tensor` nested lists.
        max_pixels: most pixels of all images together, as far as their headers say it.

    Raises:
        RequestError: it is none.
    """
    try:
        content = parse_json(body)
    except ValueError as error:
        raise RequestError(f"JSON Parse error: {error}") from None
    if not isinstance(content, dict) or not ("instances" in content) ^ ("inputs" in content):
        raise RequestError("Request must be an object with either 'instances' or 'inputs', and not both")
    named = content.get("signature_name", "serving_default")
    signature = SIGNATURES.get(named) if isinstance(named, str) else None
    if signature is None:
        shown = str(named)[:60]
        raise RequestError(f"Serving signature name: {shown!r} not found; there are {', '.join(SIGNATURES)}")
    by_rows = "instances" in content
    values = content["instances" if by_rows else "inputs"]
    if not by_rows and isinstance(values, dict) and set(values) == {_INPUT}:
        values = values[_INPUT]
    if not isinstance(values, list) or not values:
        raise RequestError(f"{'instances' if by_rows else 'inputs'} must be a list of one image or more")
    if len(values) > MAX_IMAGES:
        raise RequestError(f"{len(values)} images are more than the {MAX_IMAGES} that one request may have")
    if by_rows:
        values = [value[_INPUT] if isinstance(value, dict) and set(value) == {_INPUT} else value for value in values]
    if signature == "image_tensor":
        return Request(signature, _pixels(values), by_rows)
    encoded = [_bytes(value, place) for place, value in enumerate(values)]
    if signature == "image_bytes":
        _check_pixels(encoded, max_pixels)
    return Request(signature, encoded, by_rows)


def _bytes(value: Any, place: int) -> bytes:
    if isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str):
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (binascii.Error, ValueError) as error:
            raise RequestError(f"instance {place}: 'b64' is no base64: {error}") from None
    raise RequestError(f'instance {place}: give an encoded image as {{"b64": "..."}}')


def _pixels(values: list) -> np.ndarray:
    try:
        pixels = np.array(values)
    except ValueError:
        pixels = np.zeros(0)
    if pixels.ndim != 4 or pixels.shape[3] != 3 or pixels.dtype.kind not in "iu":
        raise RequestError("image_tensor takes images of one size: whole numbers [B, H, W, 3]")
    if pixels.min(initial=0) < 0 or pixels.max(initial=0) > 255:
        raise RequestError("image_tensor takes values from 0 to 255")
    return pixels.astype(np.uint8)


def _check_pixels(encoded: list[bytes], max_pixels: int) -> None:
    total = 0
    for content in encoded:
        try:
            height, width = image_size(content, max_pixels)
        except ImageError:
            continue  # the model says what is wrong with it
        total += height * width
    if total > max_pixels:
        raise RequestError(f"the images have {total} pixels together, more than the {max_pixels} that are taken")


def answer(outputs: dict[str, np.ndarray], by_rows: bool) -> dict[str, Any]:
    """The outputs of a model as TF Serving gives them.

    Args:
        outputs: by name, [B, ...].
        by_rows: as in `Request`.
    """
    columns = {name: value.tolist() for name, value in outputs.items()}
    if not by_rows:
        return {"outputs": columns}
    count = len(next(iter(columns.values())))
    return {"predictions": [{name: column[row] for name, column in columns.items()} for row in range(count)]}


def status(version: str) -> dict[str, Any]:
    """The answer to a question for a model's status."""
    available = {"error_code": "OK", "error_message": ""}
    return {"model_version_status": [{"version": version, "state": "AVAILABLE", "status": available}]}
