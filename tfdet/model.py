"""A detector as a thing to use: what `tfdet.load` and `tfdet.build` give back."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from tfdet import arguments, config
from tfdet.config import zoo
from tfdet.config.bindings import process_state
from tfdet.config.files import RUN_FILE
from tfdet.config.lines import Settings, gin_lines
from tfdet.errors import UserError
from tfdet.exported_model import DetectingModel, ExportedModel, introduce
from tfdet.files import at_home

if TYPE_CHECKING:
    from rich.console import Console

    from tfdet.config import Configuration
    from tfdet.detectors import Detector
    from tfdet.evaluate.run import EvalResult
    from tfdet.export.formats import ExportFormat, Precision
    from tfdet.export.run import Export
    from tfdet.export.saved_model import BadImages
    from tfdet.predict.predictors import CheckpointPredictor
    from tfdet.predict.restore import Weights
    from tfdet.predict.sources import ImageSource

Row: TypeAlias = "str | os.PathLike | Sequence[str | os.PathLike]"


def build(
    row: Row,
    num_classes: int | None = None,
    *,
    classes: Sequence[str] | None = None,
    bindings: Settings = None,
    allow_imports: bool = False,
) -> Model:
    """A model with the architecture of a gin file and random weights, to be trained.

    Args:
        row: name of a zoo row, such as "faster_r50v1_fpn", or path of a gin file; several are read one after the
            other, later ones override.
        num_classes: C, without background; None: `classes` say it, or the data that it is trained on.
        classes: their C names; None: "class 1", "class 2", ..., or those of the data that it is trained on.
        bindings: values in place of the row's.
        allow_imports: whether the `config.gin` of a run, as a row, may import modules that are not tfdet's.

    Raises:
        UserError: there is no such file, name or value.

    Example:
        >>> import tfdet
        >>> model = tfdet.build("tiny.gin", num_classes=3, bindings={"RpnHead.channels": 8})
        >>> model.num_classes, model.classes
        (3, ['class 1', 'class 2', 'class 3'])
    """
    count, names = arguments.class_names(num_classes, classes)
    files = arguments.gin_files(row)
    return Model(_parsed(files, bindings, allow_imports), Path(files[0]).stem, count, names)


def load(
    path: str | os.PathLike,
    row: Row | None = None,
    *,
    checkpoint: int | str | None = None,
    raw_weights: bool = False,
    bindings: Settings = None,
    allow_imports: bool = False,
) -> Model | ExportedModel:
    """A trained model: of a run, of an exported folder, or of a weights file with its row.

    Args:
        path: folder of a training run, which has its own configuration; folder that `export` wrote; name of published
            weights, such as "torchvision/fasterrcnn_resnet50_fpn" (docs/weights.md), which are fetched once and have
            their own row; or a weights file of tfdet, SimpleDet, Detectron2 or torchvision.
        row: as in `build`; of a weights file, or in place of the configuration of a run or of published weights.
        checkpoint: of a run: a step, "best" (of the evaluations during training) or "last"; None: the best, else the
            last. `describe` says which it is.
        raw_weights: of a run: the weights as trained, also where it keeps their moving average.
        bindings: values in place of the configuration's.
        allow_imports: of a run: whether its configuration may import modules that are not tfdet's, which run then. For
            a run of your own parts, or of someone you trust.

    Raises:
        UserError: there is nothing of the kind at `path`, it cannot be fetched, or something is named that it does not
            have.

    Example:
        >>> import tfdet
        >>> tfdet.load("runs/shapes").classes
        ['circle', 'square', 'triangle']
    """
    from tfdet.export.formats import format_of

    folder = at_home(arguments.path("path", path))
    _choose_tensorflow()
    if os.path.isfile(folder / "saved_model.pb") or format_of(folder) is not None:
        if row is not None or checkpoint is not None or raw_weights or bindings:
            raise UserError(f"{path} is an exported model, with its own configuration and weights: name it alone")
        return ExportedModel(folder)
    from tfdet.data.manifest import MANIFEST_FILE

    own = folder / RUN_FILE
    if os.path.isfile(own) or os.path.isfile(folder / MANIFEST_FILE):
        if row is None and not os.path.isfile(own):
            raise UserError(f"{own} not found: give row, the gin file that the run was trained with")
        from tfdet.predict.restore import RunWeights

        configuration = _parsed([str(own)] if row is None else arguments.gin_files(row), bindings, allow_imports)
        return Model(configuration, folder.name, weights=RunWeights(folder, checkpoint, raw_weights))
    if checkpoint is not None or raw_weights:
        raise UserError(f"{path} is no run: checkpoint and raw_weights choose among the weights of one")
    from tfdet.predict.restore import FileWeights, evaluation_folder
    from tfdet.weights import published

    offered = published.named(path)
    if row is None:
        if offered is None:
            what = "is no run (it has no config.gin) and no exported model" if os.path.isdir(folder) else "is no folder"
            raise UserError(
                f"{path} {what}: give one, the name of published weights, or the row of these weights, such as "
                f"row='faster_r50v1_fpn'.{published.suggestion(str(path))}"
            )
        files, own_lines = published.row_of(offered)
        configuration = _parsed(files, [*own_lines, *gin_lines(bindings)], allow_imports)
        name = offered.name.rpartition("/")[2]
    else:
        files = arguments.gin_files(row)
        configuration, name = _parsed(files, bindings, allow_imports), Path(files[0]).stem
        if offered is not None:
            published.check_row(offered, configuration)
    weights = FileWeights(path, evaluation_folder(configuration), configuration.is_of_a_row("EvalInput.data_dir"))
    return Model(configuration, name, weights=weights)


def list_models() -> list[zoo.Row]:
    """The model zoo: every row that `build` knows by name, with what was published of it.

    Example:
        >>> import tfdet
        >>> [row.box_ap for row in tfdet.list_models() if row.name == "faster_r50v1_fpn"]
        [36.5]
    """
    return zoo.zoo_rows(program=None)


class Model(DetectingModel):
    """A detector with its configuration. `build`, `load` and `train` make and change it.

    The Keras model itself is built when it is first needed, in float32 whatever the run was trained in, and leaves
    gin and Keras' global policy as they were.

    Args:
        configuration: with everything that the gin files say.
        name: of the row or run.
        num_classes: C, where nothing else says it.
        classes: names by class, where `weights` do not say them.
        weights: to fill the detector with; None leaves it random.

    Attributes:
        configuration: as given; after training that of the run.
        name: as given.
        num_classes: C; None until the data of training says it.
        weights: as given.
    """

    def __init__(
        self,
        configuration: Configuration,
        name: str,
        num_classes: int | None = None,
        classes: Sequence[str] | None = None,
        weights: Weights | None = None,
    ):
        self.name = name
        self.num_classes: int | None = num_classes
        #: Classes that a person named for a model that has none of its own: data of training has to agree.
        self.given_classes = None if classes is None else list(classes)
        self._set(configuration, weights)
        if weights is None:
            count = num_classes or 0
            self.classes = self.given_classes or [f"class {number}" for number in range(1, count + 1)]
            self.category_ids = list(range(1, count + 1))

    def _set(self, configuration: Configuration, weights: Weights | None) -> None:
        self.configuration, self.weights = configuration, weights
        self._detector: Detector | None = None
        self._predictor: CheckpointPredictor | None = None
        self._step = 0
        if weights is not None:
            self.classes, self.category_ids = list(weights.classes), list(weights.category_ids)
            self.num_classes = len(self.classes)

    def __repr__(self) -> str:
        classes = "classes not known yet" if self.num_classes is None else f"{self.num_classes} classes"
        origin = "random weights" if self.weights is None else f"weights of {self.weights.path}"
        if chosen := getattr(self.weights, "chosen", None):
            origin += f": {chosen.describe()}"
        return f"Model({self.name}, {classes}, {origin})"

    @property
    def detector(self) -> Detector:
        """The Keras model.

        Raises:
            UserError: the number of classes is not known, a part refuses a value, or the weights do not fit.
        """
        with process_state:  # two threads fill one detector, not two
            if self._detector is None:
                if self.num_classes is None:
                    raise UserError("the number of classes is not known: give build num_classes or classes, or train")
                from tfdet.detectors import build_detector
                from tfdet.predict.float32 import in_float32

                with in_float32():
                    detector = self.configuration.build(build_detector, num_classes=self.num_classes)
                self._step = 0 if self.weights is None else self.weights.fill(detector)
                self._detector = detector
            return self._detector

    @property
    def step(self) -> int:
        """Steps of training that the weights are of; 0 where no run says it."""
        _ = self.detector  # is told it when it is filled
        return self._step

    def describe(self) -> str:
        """Which weights it has, in words."""
        return "random weights" if self.weights is None else self.weights.describe(self.step)

    @property
    def run_folder(self) -> str | None:
        """The folder of the training run that the model is of; None: it is of none."""
        from tfdet.predict.restore import RunWeights

        return self.weights.path if isinstance(self.weights, RunWeights) else None

    @property
    def predictor(self) -> CheckpointPredictor:
        """Detects on one image: uint8 [H, W, 3], RGB -> `Found`; by `TestTimeAugmentation` where that is on."""
        with process_state:
            if self._predictor is None:
                from tfdet.predict.augment import TestTimeAugmentation
                from tfdet.predict.predictors import CheckpointPredictor
                from tfdet.predict.restore import evaluation_resize

                augmentation = self.configuration.build(TestTimeAugmentation)
                self._predictor = CheckpointPredictor(
                    self.detector, evaluation_resize(self.configuration), self.classes, self.category_ids, augmentation
                )
            return self._predictor

    def _measure(self, eval_data: str | os.PathLike | None, console: Console | None, **options: Any) -> EvalResult:
        from tfdet.data.inputs import EvalInput
        from tfdet.evaluate.run import detect_on, evaluate
        from tfdet.predict.augment import TestTimeAugmentation
        from tfdet.training.on_devices import local_devices

        configuration = self.configured(None, {"EvalInput.data_dir": eval_data})
        eval_input, augmentation = (configuration.build(part) for part in (EvalInput, TestTimeAugmentation))
        detector, devices = self.detector, [] if augmentation.is_on else local_devices()
        detect = detect_on(detector, eval_input.resize.rule, devices) if len(devices) > 1 else self.predictor.detect
        named = self.given_classes is not None if self.weights is None else self.weights.named
        classes = self.classes if named else None
        introduce(self.describe(), eval_input.manifest, classes, console, max(1, len(devices)))
        if augmentation.is_on and console is not None:
            console.print(augmentation.describe())
        return evaluate(
            detector, eval_input, detect=detect, console=console, augmentation=augmentation, classes=classes, **options
        )

    def export(
        self,
        folder: str | os.PathLike,
        *,
        verify: bool = True,
        images: ImageSource | Iterable[ImageSource] | None = None,
        eval_data: str | os.PathLike | None = None,
        num_images: int = 4,
        box_tolerance: float | None = None,
        score_tolerance: float | None = None,
        native_ops: bool = False,
        max_pixels: int | None = None,
        format: ExportFormat = "saved_model",
        precision: Precision = "float32",
        canvas: tuple[int, int] | None = None,
        ap_images: int | None = None,
        versions: bool = False,
        bad_images: BadImages = "alone",
    ) -> Export:
        """Writes the model for other programs; docs/exports.md and docs/serving.md show the use.

        Args:
            folder: where to; absent or empty.
            verify: run images through this model and through what was written, and compare.
            images: for that, as in `predict`. None: images of the evaluation data, else drawn ones.
            eval_data: the data set to take them from, and to measure AP of both models on.
            num_images: most images to compare.
            box_tolerance: largest difference of a box, in pixels of the image; None: 0.05, of other programs' formats
                0.1, and none where `precision` is lower.
            score_tolerance: largest difference of a score; None: 0.001.
            native_ops: trace tfdet's custom ops; the model then loads only where their library was loaded first.
            max_pixels: most pixels of an image that it takes encoded, height times width; None: 89,478,485.
            format: "saved_model", which needs TensorFlow alone, "onnx", "litert" or "openvino".
            precision: "float32"; of "litert" and "openvino" also "float16", of "litert" also "int8".
            canvas: height and width of all images of a format but SavedModel; None: any size, of LiteRT a square of
                `EvalInput.long_side`.
            ap_images: most images of `eval_data` that AP is measured on; None: all, 0: none.
            versions: write into the folder's next numbered folder, 1, 2, ..., as TF Serving reads them.
            bad_images: what fails where an image of a SavedModel's batch cannot be read: "alone" or "all".

        Returns:
            What was written, and how it differs.

        Raises:
            UserError: the folder is not empty or cannot be written; `ExportDiffersError`, one of them, where the
                written model does not find what this one finds.

        Example:
            >>> model.export("exported").differences[0].missing
            0
        """
        from tfdet.export.request import Request, export_model

        request = Request(
            format, precision, canvas, verify, images, eval_data, num_images, ap_images, box_tolerance, score_tolerance,
            native_ops, arguments.max_pixels(max_pixels), versions, bad_images,
        )  # fmt: skip
        return export_model(self, arguments.path("folder", folder), request)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the weights to a file, which `load` takes with the row, and `Trainer.init_weights` too.

        Args:
            path: ends in .safetensors, tfdet's own format, or in .params, a checkpoint of SimpleDet.

        Raises:
            UserError: it cannot be written, or SimpleDet has no such detector.

        Example:
            >>> model.save("shapes.safetensors")
            >>> tfdet.load("shapes.safetensors", row="tiny.gin").num_classes
            3
        """
        from tfdet.weights.convert import check_output, save

        target = Path(arguments.path("path", path))
        check_output(target)
        named = None
        if self.given_classes is not None or (self.weights is not None and self.weights.named):
            named = dict(zip(self.category_ids, self.classes))
        save(self.detector, target, self.describe(), named)

    def configured(self, bindings: Settings = None, settings: Mapping[str, Any] | None = None) -> Configuration:
        """The configuration with more values.

        Args:
            bindings: as in `build`.
            settings: values by gin name, None for those that stay as they are.

        Returns:
            A new configuration, which has built nothing.
        """
        given = {name: value for name, value in (settings or {}).items() if value is not None}
        lines = [*gin_lines(bindings), *gin_lines(given)]
        return config.extended(self.configuration, lines)

    def trained(self, configuration: Configuration, weights: Weights) -> None:
        """Takes what training left, in place of what the model was."""
        self._set(configuration, weights)


def _parsed(files: list[str], bindings: Settings, allow_imports: bool) -> Configuration:
    """The configuration of gin files, all of tfdet imported: a gin file names parts of any package."""
    _choose_tensorflow()
    config.register_all()
    return config.parse(files, gin_lines(bindings), allow_imports)


def _choose_tensorflow() -> None:
    """Keras reads its backend once, when it is first imported; a ~/.keras/keras.json may say something else."""
    keras = sys.modules.get("keras")
    if keras is None:
        os.environ["KERAS_BACKEND"] = "tensorflow"
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")  # warnings and errors of TensorFlow's C++ part
    elif keras.config.backend() != "tensorflow":
        raise UserError(
            f"Keras runs on {keras.config.backend()} here, tfdet needs TensorFlow: import tfdet first, or set "
            "KERAS_BACKEND=tensorflow"
        )
