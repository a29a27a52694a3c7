"""Takes training steps or detects with torchvision's or Detectron2's detectors, each when it is asked for.

A program of its own, without tfdet and TensorFlow; `tfdet benchmark peers` runs it beside its own steps:

    python time_torch.py PROGRAM FAMILY WHAT SHORT_SIDE LONG_SIDE IMAGES THREADS

PROGRAM is `torchvision` or `detectron2`, FAMILY one of `TORCHVISION` or `DETECTRON2` below, all with R50 and random
weights, WHAT `train` or `inference`; THREADS 0 leaves torch its own number. When it has warmed up it writes a line with
its versions, and for every line on its standard input it does its work once and writes what that took, all in JSON.

A training step is forward, backward and SGD with momentum; as with pretrained weights BN is frozen, and so are the stem
and the first stage. Images, their 8 boxes and their masks (the whole boxes) are random and of the size asked for, so
that nothing is resized.
"""

import importlib
import json
import sys
import time

import torch

TORCHVISION = {
    "faster_fpn": "fasterrcnn_resnet50_fpn",
    "mask_fpn": "maskrcnn_resnet50_fpn",
    "retina": "retinanet_resnet50_fpn",
}
DETECTRON2 = {
    "faster_fpn": "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml",
    "faster_c4": "COCO-Detection/faster_rcnn_R_50_C4_1x.yaml",
    "mask_fpn": "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml",
    "mask_c4": "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x.yaml",
    "retina": "COCO-Detection/retinanet_R_50_FPN_1x.yaml",
    "cascade_fpn": "Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml",
    "cascade_mask_fpn": "Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml",
}
CLASSES, BOXES, WARM_UP = 80, 8, 2


def boxes_of(images, height, width):
    """Boxes of a tenth to a half of the sides, and their classes from 0, of every image."""
    source, found = torch.Generator().manual_seed(0), []
    for _ in range(images):
        size = (0.1 + 0.4 * torch.rand(BOXES, 2, generator=source)) * torch.tensor([width, height])
        corner = torch.rand(BOXES, 2, generator=source) * (torch.tensor([width, height]) - size)
        found.append((torch.cat([corner, corner + size], dim=1), torch.randint(0, CLASSES, (BOXES,), generator=source)))
    return found


def tame(norm):
    """Makes the last normalisation of a residual unit small: sixteen random units would grow beyond all numbers."""
    norm.weight.fill_(0.2)
    return norm


def torchvision_work(family, training, height, width, images):
    """The network, and what runs it: the losses in training."""
    import torchvision
    from torchvision.ops.misc import FrozenBatchNorm2d

    def freeze(module):
        for name, child in module.named_children():
            if isinstance(child, torch.nn.BatchNorm2d):
                frozen = FrozenBatchNorm2d(child.num_features)
                setattr(module, name, tame(frozen) if name == "bn3" else frozen)
            else:
                freeze(child)

    make = getattr(torchvision.models.detection, TORCHVISION[family])
    options = {"min_size": min(height, width), "max_size": max(height, width)}
    network = make(weights=None, weights_backbone=None, num_classes=CLASSES + 1, **options)
    freeze(network.backbone)
    for name, parameter in network.backbone.body.named_parameters():
        if name.startswith(("conv1", "layer1")):
            parameter.requires_grad_(False)
    pictures = [torch.rand(3, height, width) for _ in range(images)]
    given = []
    for boxes, labels in boxes_of(images, height, width):
        one = {"boxes": boxes, "labels": labels + 1}
        if family.startswith("mask"):
            one["masks"] = torch.zeros(BOXES, height, width, dtype=torch.uint8)
            for mask, (left, top, right, bottom) in zip(one["masks"], boxes.int().tolist()):
                mask[top:bottom, left:right] = 1
        given.append(one)
    return network, (lambda: network(pictures, given)) if training else (lambda: network(pictures))


def detectron2_work(family, training, height, width, images):
    """As `torchvision_work`."""
    from detectron2 import model_zoo
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model
    from detectron2.structures import Boxes, Instances, PolygonMasks
    from detectron2.utils.events import EventStorage

    cfg = get_cfg()
    cfg.merge_from_file(model_zoo.get_config_file(DETECTRON2[family]))
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", ""
    cfg.MODEL.MASK_ON = "mask" in family
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = cfg.MODEL.RETINANET.NUM_CLASSES = CLASSES
    network = build_model(cfg)
    for name, module in network.named_modules():
        if name.endswith("conv3.norm"):
            tame(module)
    given = []
    for boxes, classes in boxes_of(images, height, width):
        instances = Instances((height, width), gt_boxes=Boxes(boxes), gt_classes=classes)
        if "mask" in family:
            polygons = [[[x1, y1, x2, y1, x2, y2, x1, y2]] for x1, y1, x2, y2 in boxes.tolist()]
            instances.gt_masks = PolygonMasks(polygons)
        picture = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
        given.append({"image": picture, "height": height, "width": width, "instances": instances})

    def run():
        with EventStorage():
            return network(given)

    return network, run


def memory_peak():
    """Bytes that this process has held at most; 0 where Linux does not tell."""
    try:
        with open("/proc/self/status") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except OSError:
        return 0


def main(program, family, what, height, width, images, threads):
    """Warms up, then works once for every line."""
    torch.manual_seed(0)
    if threads:
        torch.set_num_threads(threads)
    training = what == "train"
    make = {"torchvision": torchvision_work, "detectron2": detectron2_work}[program]
    network, run = make(family, training, height, width, images)
    network.train(training)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-6, momentum=0.9, weight_decay=1e-4)

    def step():
        loss = sum(run().values())
        if not torch.isfinite(loss):
            raise SystemExit(f"the loss is {loss.item()}")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    work = step if training else torch.inference_mode()(run)
    for _ in range(WARM_UP):
        work()
    versions = {name: importlib.import_module(name).__version__ for name in ("torch", program)}
    print(json.dumps({"versions": versions, "threads": torch.get_num_threads()}), flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        took = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall, "memory_peak": memory_peak()}
        print(json.dumps(took), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:4], *map(int, sys.argv[4:]))
