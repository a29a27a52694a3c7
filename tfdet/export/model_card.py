"""The card of an exported model, `MODEL_CARD.md` and `model_card.json`: what it is of, takes and finds."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import re
import sys
from collections.abc import Mapping
from typing import Any

from tfdet.config import Configuration
from tfdet.data.manifest import Manifest
from tfdet.errors import UserError
from tfdet.files import replacing, write_json
from tfdet.strict_json import read_json
from tfdet.training.run_dir import RunDirectory
from tfdet.training.run_record import data_fingerprint
from tfdet.weights import published

CARD, CARD_JSON = "MODEL_CARD.md", "model_card.json"
_VERSION = 1
_PACKAGES = ("tensorflow", "keras", "numpy")
_PACKAGES_OF = {
    "onnx": ("tf2onnx", "onnx", "onnxruntime"),
    "litert": ("ai-edge-litert", "ai-edge-quantizer"),
    "openvino": ("openvino",),
}
_POSTPROCESS = ("PostProcess", "DensePostProcess")
_UNKNOWN = "not known: not a published file"


def card_of(
    name: str,
    described: str,
    configuration: Configuration,
    classes: list[str],
    category_ids: list[int],
    weights: str | None,
) -> dict[str, Any]:
    """What can be said of a model before it is exported.

    Args:
        name: of the model.
        described: which weights it has, in words.
        configuration: of the model.
        classes, category_ids: by class.
        weights: folder of a run, a file or the name of published weights; None for random ones.

    Returns:
        The content of the json, without what `write_card` adds.
    """
    run = weights if weights is not None and os.path.isfile(RunDirectory(weights).manifest) else None
    start = _bound(configuration, "Trainer.init_weights") if run is not None else weights
    return {
        "version": _VERSION,
        "name": name,
        "weights": described,
        "classes": [
            {"id": number, "name": name, "category_id": int(category)}
            for number, (name, category) in enumerate(zip(classes, category_ids), 1)
        ],
        "thresholds": _thresholds(configuration, run),
        "training_data": None if run is None else _training_data(run),
        "start_weights": None if start is None else _start_weights(start),
        "configuration": configuration.text(),
    }


def write_card(folder: str | os.PathLike, card: Mapping[str, Any], **more: Any) -> None:
    """Writes both files into an export, or writes them anew.

    Args:
        folder: of the export.
        card: of `card_of`.
        more: further fields: `format`, `input`, `verification`, `evaluation`.
    """
    versions = {"tfdet": sys.modules["tfdet"].__version__, "python": platform.python_version()}
    own = _PACKAGES_OF.get((more.get("format") or {}).get("name"), ())
    versions |= {name: version for name in (*_PACKAGES, *own) if (version := _installed(name))}
    written = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    content = {**card, **more, "versions": versions, "written": written}
    write_json(content, os.path.join(folder, CARD_JSON), for_people=True)
    with replacing(os.path.join(folder, CARD)) as temporary:
        temporary.write_text(_markdown(content), encoding="utf-8")


def read_card(folder: str | os.PathLike) -> dict[str, Any]:
    """The content of an export's `model_card.json`.

    Raises:
        UserError: there is none, or it is damaged.
    """
    path = os.path.join(folder, CARD_JSON)
    try:
        content = read_json(path, "the model card", "export the model again")
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path} not found: give the folder of an export") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is no model card: export the model again")
    return content


def _bound(configuration: Configuration, name: str) -> Any:
    return configuration.value(name) if configuration.is_bound(name) else None


def _thresholds(configuration: Configuration, run: str | None) -> dict[str, Any]:
    """What detections have passed already, and where `tfdet report` proposes to cut each class."""
    names = ("score_threshold", "iou_threshold", "max_detections")
    bound: dict[str, Any] = {}
    for name in names:
        values = [value for part in _POSTPROCESS if (value := _bound(configuration, f"{part}.{name}")) is not None]
        bound[name] = values[0] if values else None
    proposed = None
    if run is not None:
        try:
            with open(os.path.join(run, "report", "thresholds.json"), encoding="utf-8") as file:
                content = json.load(file)
            proposed = {str(name): float(value) for name, value in content["thresholds"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            proposed = None  # no report was made; the card can do without
    return {**bound, "proposed_by_class": proposed}


def _training_data(run: str) -> dict[str, Any]:
    manifest = Manifest.load(run, check_shards=False)
    return {
        "name": manifest.name,
        "source": manifest.source,
        "fingerprint": data_fingerprint(manifest),
        "images": manifest.num_images,
        "boxes": manifest.num_boxes,
        "boxes_by_class": dict(zip(manifest.classes, (int(count) for count in manifest.boxes_per_class))),
    }


def _start_weights(weights: str) -> dict[str, str]:
    found = published.find(weights)
    if found is None:
        return {"name": os.path.basename(os.fspath(weights)), "licence": _UNKNOWN}
    return {"name": found.name, "licence": found.licence, "source": found.source}


def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _plain(text: Any) -> str:
    """A text that is nothing but text in Markdown, in one line."""
    line = " ".join(str(text).split())
    return re.sub(r"([\\`*_{}\[\]()#+!|<>&~])", r"\\\1", "".join(c for c in line if c.isprintable()))


def _percent(value: float) -> str:
    return "-" if value < 0 else f"{100 * value:.1f}"


def _markdown(card: Mapping[str, Any]) -> str:
    lines = [f"# {_plain(card['name'])}", ""]
    form, data, start = card.get("format") or {}, card["training_data"], card["start_weights"]
    lines += [
        f"An object detector, {_plain(card['weights'])}, exported by tfdet {card['versions']['tfdet']} on "
        f"{card['written'][:10]} as {form.get('title', 'a model')}, {form.get('precision', 'float32')}.",
        "",
        "## Input",
        "",
        card.get("input") or "",
        "",
        "## Classes",
        "",
        "| `detection_classes` | name | category id of the data | boxes trained on | proposed threshold |",
        "|---:|---|---:|---:|---:|",
    ]
    boxes = (data or {}).get("boxes_by_class") or {}
    proposed = card["thresholds"]["proposed_by_class"] or {}
    lines += [
        f"| {entry['id']} | {_plain(entry['name'])} | {entry['category_id']} | {boxes.get(entry['name'], '-')} | "
        f"{proposed.get(entry['name'], '-')} |"
        for entry in card["classes"]
    ]
    cut = {key: value for key, value in card["thresholds"].items() if key != "proposed_by_class" and value is not None}
    lines += [
        "",
        "Detections have passed: " + ", ".join(f"{key} {value}" for key, value in cut.items()) + "." if cut else "",
    ]
    lines += ["", "## How good it is", "", *_figures(card)]
    lines += ["", "## What it was made from", ""]
    if data is not None:
        lines.append(
            f"Training data: {_plain(data['name'])} ({_plain(data['source'])}), {data['images']} images, "
            f"{data['boxes']} boxes; fingerprint of its records `{data['fingerprint']}`."
        )
    if start is not None:
        lines.append(f"Start weights: {_plain(start['name'])}; licence: {_plain(start['licence'])}.")
    lines.append("Versions: " + ", ".join(f"{name} {version}" for name, version in card["versions"].items()) + ".")
    code = "\n".join(f"    {line}" for line in str(card["configuration"]).splitlines())
    return "\n".join([*lines, "", "## Configuration", "", code, ""])


def _figures(card: Mapping[str, Any]) -> list[str]:
    evaluation, verification = card.get("evaluation"), card.get("verification")
    lines = []
    if evaluation is not None:
        lines += [
            f"Measured on {evaluation['images']} images of {_plain(evaluation['data'])}:",
            "",
            "| | AP | AP50 | AP75 |",
            "|---|---:|---:|---:|",
        ]
        for key, title in (
            ("checkpoint", "checkpoint"),
            ("export", "this export"),
            ("checkpoint_masks", "checkpoint, masks"),
            ("export_masks", "this export, masks"),
        ):
            if (figures := evaluation.get(key)) is not None:
                lines.append(
                    f"| {title} | " + " | ".join(_percent(figures[name]) for name in ("AP", "AP50", "AP75")) + " |"
                )
        lines.append("")
    else:
        lines += ["Not measured: `tfdet export --eval_data=DATA` measures the checkpoint and the export.", ""]
    if verification is None:
        lines.append("Not compared with the checkpoint.")
    else:
        lines.append(
            f"Compared with the checkpoint on {verification['images']} images, {verification['detections']} "
            f"detections: boxes differ by {verification['box']:.2g} px at most, scores by {verification['score']:.2g}, "
            f"{verification['missing']} missing, {verification['extra']} too many: "
            + ("passed." if verification["passed"] else "**not passed: do not use it.**")
        )
    return lines
