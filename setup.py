"""Installs tfdet: `pip install -e .` for work on the source, `pip install .` for use; both give the `tfdet` command.

The gin files stand in `gin_configs/` beside the package and are installed as `tfdet/gin_configs/`, and the programs
that run other networks for `tfdet convert_weights --verify` and `tfdet benchmark peers`, in `tools/crosscheck/`, as
`tfdet/crosscheck/`.
"""

import re
from pathlib import Path

from setuptools import Distribution, find_packages, setup

ROOT = Path(__file__).parent
OPS = "lib/_tfdet_ops.so"  # `make ops` builds it; a wheel made afterwards carries it
VERSION = re.search(r'^__version__ = "(.+)"', (ROOT / "tfdet/__init__.py").read_text(), re.MULTILINE).group(1)


class DistributionWithOps(Distribution):
    """A wheel that carries the custom ops is for one platform."""

    def has_ext_modules(self):
        return (ROOT / "tfdet/ops" / OPS).exists()


setup(
    distclass=DistributionWithOps,
    name="tfdet",
    version=VERSION,
    description="Object detection on TensorFlow and Keras: SimpleDet's model zoo, rebuilt exactly",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=[*find_packages(include=["tfdet", "tfdet.*"]), "tfdet.gin_configs", "tfdet.crosscheck"],
    package_dir={"tfdet.gin_configs": "gin_configs", "tfdet.crosscheck": "tools/crosscheck"},
    package_data={
        "tfdet.gin_configs": ["*.gin", "*/*.gin", "*/*/*.gin"],
        "tfdet.ops": [OPS],
        "tfdet.report": ["templates/*.html"],
        "tfdet": ["py.typed"],
    },
    python_requires=">=3.10,<3.13",
    install_requires=[
        "tensorflow~=2.20.0",  # tf-models-official 2.20 wants exactly this series
        "keras>=3.10,<4",
        "tf-models-official~=2.20.0",  # orbit, the TFRecord schema and its tools
        "gin-config>=0.5,<0.6",  # tfdet/config reads gin's registry, which is not public
        "Jinja2>=3.1",  # HTML pages, with every name in them escaped
        "matplotlib>=3.7",
        "numpy>=1.26,<3",
        "Pillow>=10",
        "PyYAML>=6",  # data.yaml of YOLO
        "pycocotools>=2.0.7",
        "faster-coco-eval>=1.7",  # pycocotools' figures in an eighth of the time
        "rich>=13",
        "requests>=2.32",
        "filelock>=3.13",
        "platformdirs>=4",
    ],
    extras_require={
        "cuda": ["tensorflow[and-cuda]~=2.20.0"],
        "keras_hub": ["keras-hub>=0.20"],  # KerasHubBackbone
        "wandb": ["wandb>=0.16"],  # Trainer.sinks
        "mlflow": ["mlflow>=2.14"],
        "remote": ["fsspec>=2024.2"],  # data sets at addresses; https:// needs nothing
        "gs": ["fsspec>=2024.2", "gcsfs>=2024.2"],
        "s3": ["fsspec>=2024.2", "s3fs>=2024.2"],
        "video": ["opencv-python-headless>=4.8"],  # videos and cameras of `tfdet predict`
        "sahi": ["sahi>=0.12"],  # tfdet.adapters.sahi; brings opencv-python, which is another cv2 than the headless one
        "supervision": ["supervision>=0.31"],  # early ones bring opencv-python, which opencv-python-headless is not
        "onnx": ["tf2onnx>=1.17", "onnx>=1.17", "onnxruntime>=1.20"],
        "litert": ["ai-edge-litert>=2.1", "ai-edge-quantizer>=0.6"],
        "openvino": ["openvino>=2025.1"],
        "docs": ["mkdocs-material>=9.5"],  # `make docs`
        "test": [
            "pytest>=8",
            "pytest-timeout>=2.2",
            "pytest-xdist>=3.5",
            "hypothesis>=6.100",
            "opencv-python-headless>=4.8",  # what SimpleDet resizes and pastes with
            "ruff>=0.6",
            "mypy>=1.11",
            "supervision>=0.31",
            "fsspec>=2024.2",
            "pandas>=2",  # reads metrics.csv as a person does
            "nbclient>=0.10",  # runs docs/quickstart.ipynb
            "ipykernel>=6.29",
            "tf2onnx>=1.17",  # and what runs the exports: 22 MB to fetch, 115 MB installed
            "onnx>=1.17",
            "onnxruntime>=1.20",
            "ai-edge-litert>=2.1",
            "ai-edge-quantizer>=0.6",
            "openvino>=2025.1",  # 59 MB to fetch, 180 MB installed
        ],
    },
    entry_points={"console_scripts": ["tfdet = tfdet.commands:main"]},
    classifiers=[
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
