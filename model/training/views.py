"""Render augmented views of images once, with the features that teachers compute from them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import torch

from model.datasets import dataset as datasets
from model.networks import heads
from model.preprocessing import normalize
from model.preprocessing.decode import Preprocess
from model.training import augment, trainer
from model.training import features as feature_pass

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt
    from torch import Tensor

    from model.datasets.dataset import ImageDataset
    from model.packaging.bundle import Bundle
    from model.training.augment import Augmentation
    from model.training.trainer import RunContext

# Crops are cut from images so many times larger than the teachers' input.
DETAIL = 1.3
BATCH_SIZE = 16


@dataclasses.dataclass(frozen=True)
class Views:
    """Views of images: `pixels` uint8 [M, views, H, W, 3] for a student, and the teachers' `features` [M, views, F].

    Image i of `images` has row `rows[i]` in both.
    """

    images: ImageDataset
    rows: npt.NDArray[np.int64]
    pixels: npt.NDArray[np.uint8]
    features: npt.NDArray[np.float32]

    @property
    def count(self) -> int:
        """The number of views per image."""
        return int(self.pixels.shape[1])

    def of(self, images: ImageDataset) -> Views:
        """Return the views of images that are a part of these."""
        position_by_digest = {digest: position for position, digest in enumerate(self.images.digests)}
        return self.select(np.array([position_by_digest[digest] for digest in images.digests], np.int64))

    def select(self, positions: npt.NDArray[np.int64]) -> Views:
        """Return the views of the images at some positions, without copying them."""
        return dataclasses.replace(self, images=self.images.subset(positions), rows=self.rows[positions])

    def without(self, positions: npt.NDArray[np.int64]) -> Views:
        """Return the views of all other images."""
        return self.select(np.setdiff1d(np.arange(len(self.images)), positions))


@dataclasses.dataclass(frozen=True)
class Setting:
    """The options that the views of all sets of images have in common.

    `teachers` put their features side by side; of `student` only the size is used; `augmentation` makes views differ;
    large sets get an unnamed file in `scratch_dir`.
    """

    teachers: Sequence[Bundle]
    student: Preprocess
    augmentation: Augmentation
    context: RunContext
    scratch_dir: Path


def source_preprocess(teachers: Sequence[Bundle]) -> Preprocess:
    """Return the preprocessing of the images that views are cut from."""
    side = round(DETAIL * _input_side(teachers))
    return Preprocess(side, side)


def render(images: ImageDataset, count: int, seed: int, setting: Setting) -> Views:
    """Cut `count` views of each image, pass them through the teachers' backbones, and shrink them for the student.

    Args:
        images: preprocessed by `source_preprocess`.
        count: views per image.
        seed: the same one gives the same views.
        setting: teachers, student and the rest.

    Raises:
        TrainingStopped: a signal arrived.
    """
    context, student = setting.context, setting.student
    generator = torch.Generator().manual_seed(seed)
    pixels = datasets.allocate((len(images), count, student.height, student.width, 3), setting.scratch_dir)
    backbones = [_backbone(teacher, context) for teacher in setting.teachers]
    side = _input_side(setting.teachers)
    features: list[Tensor] = []
    with context.reporter.track("views", len(images), 0, unit="image"):
        for start in range(0, len(images), BATCH_SIZE):
            if context.stop_requested():
                raise trainer.TrainingStopped
            batch = torch.from_numpy(images.pixels_at(slice(start, start + BATCH_SIZE)))
            for view in range(count):
                views = setting.augmentation(batch, side, side, generator)
                features.append(torch.cat([backbone(views) for backbone in backbones], dim=1))
                shrunk = augment.shrink(views, student.height, student.width) * 255
                pixels[start : start + len(batch), view] = shrunk.round().byte().permute(0, 2, 3, 1).numpy()
            context.reporter.update(start + len(batch), len(batch) * count)
    batches = [torch.stack(features[index : index + count], dim=1) for index in range(0, len(features), count)]
    return Views(images, np.arange(len(images)), pixels, torch.cat(batches).numpy())


def _input_side(teachers: Sequence[Bundle]) -> int:
    return max(max(teacher.preprocess.width, teacher.preprocess.height) for teacher in teachers)


def _backbone(teacher: Bundle, context: RunContext) -> Callable[[Tensor], Tensor]:
    """Return a function from views [n, 3, side, side] in 0..1 to features [n, F] in float32 on the CPU."""
    network = feature_pass.to_device(heads.backbone(teacher.network, len(teacher.labels)).eval(), context)
    normalizer = normalize.Normalize(teacher.preprocess, context.device)

    @torch.inference_mode()
    def compute(views: Tensor) -> Tensor:
        inputs = augment.shrink(views, teacher.preprocess.height, teacher.preprocess.width).to(context.device)
        inputs = normalizer(inputs).contiguous(memory_format=torch.channels_last)
        parts = torch.split(inputs.to(context.dtype), 4)
        return torch.cat([network(part) for part in parts]).float().cpu()

    return compute
