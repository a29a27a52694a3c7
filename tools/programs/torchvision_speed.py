"""Times torchvision's detectors on CPUs: a program of its own, without tfdet and TensorFlow.

tools/benchmark_torchvision.py calls it:

    python torchvision_speed.py WHAT MODEL SHORT_SIDE LONG_SIDE IMAGES REPEATS

WHAT is `train` or `inference`, MODEL `faster`, `mask` or `retina`, with R50-FPN and random weights. Prints one JSON
object.

A training step is forward, backward and SGD with momentum; as with pretrained weights BN is frozen, and so are the stem
and the first stage. Images, their 8 boxes and their masks (the whole boxes) are random and of the size asked for, so
that torchvision does not resize them.
"""

import json
import statistics
import sys
import time

import torch
import torchvision
from torchvision.ops.misc import FrozenBatchNorm2d

MODELS = {
    "faster": torchvision.models.detection.fasterrcnn_resnet50_fpn,
    "mask": torchvision.models.detection.maskrcnn_resnet50_fpn,
    "retina": torchvision.models.detection.retinanet_resnet50_fpn,
}
CLASSES, BOXES, WARM_UP = 81, 8, 2


def network(model: str, short_side: int, long_side: int) -> torch.nn.Module:
    """The detector with frozen BN."""
    made = MODELS[model](
        weights=None, weights_backbone=None, num_classes=CLASSES, min_size=short_side, max_size=long_side
    )
    _freeze(made.backbone)
    for name, parameter in made.backbone.body.named_parameters():
        if name.startswith(("conv1", "layer1")):
            parameter.requires_grad_(False)
    return made


def _freeze(module: torch.nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, torch.nn.BatchNorm2d):
            frozen = FrozenBatchNorm2d(child.num_features)
            if name == "bn3":
                frozen.weight.fill_(0.2)  # sixteen random residual units would grow beyond all numbers
            setattr(module, name, frozen)
        else:
            _freeze(child)


def targets(images: int, height: int, width: int, masks: bool) -> list[dict[str, torch.Tensor]]:
    """Boxes of a tenth to a half of the sides, and what is inside of them."""
    source, found = torch.Generator().manual_seed(0), []
    for _ in range(images):
        size = (0.1 + 0.4 * torch.rand(BOXES, 2, generator=source)) * torch.tensor([width, height])
        corner = torch.rand(BOXES, 2, generator=source) * (torch.tensor([width, height]) - size)
        boxes = torch.cat([corner, corner + size], dim=1)
        one = {"boxes": boxes, "labels": torch.randint(1, CLASSES, (BOXES,), generator=source)}
        if masks:
            one["masks"] = torch.zeros(BOXES, height, width, dtype=torch.uint8)
            for mask, (left, top, right, bottom) in zip(one["masks"], boxes.int().tolist()):
                mask[top:bottom, left:right] = 1
        found.append(one)
    return found


def main(what: str, model: str, short_side: int, long_side: int, images: int, repeats: int) -> dict:
    """Seconds and CPU seconds of all threads, medians."""
    torch.manual_seed(0)
    detector = network(model, short_side, long_side)
    pictures = [torch.rand(3, short_side, long_side) for _ in range(images)]
    if what == "inference":
        detector.eval()

        @torch.inference_mode()
        def work():
            detector(pictures)
    else:
        given = targets(images, short_side, long_side, model == "mask")
        trained = [parameter for parameter in detector.parameters() if parameter.requires_grad]
        optimizer = torch.optim.SGD(trained, lr=1e-6, momentum=0.9, weight_decay=1e-4)

        def work():
            loss = sum(detector(pictures, given).values())
            if not torch.isfinite(loss):
                raise SystemExit(f"the loss is {loss.item()}")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    seconds, cpu = [], []
    for number in range(WARM_UP + repeats):
        start, cpu_start = time.perf_counter(), time.process_time()
        work()
        if number >= WARM_UP:
            seconds.append(time.perf_counter() - start)
            cpu.append(time.process_time() - cpu_start)
    return {
        "seconds": statistics.median(seconds),
        "cpu_seconds": statistics.median(cpu),
        "least_cpu_seconds": min(cpu),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:3], *map(int, sys.argv[3:]))))
