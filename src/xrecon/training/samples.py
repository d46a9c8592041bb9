"""Endless training samples, each a pure function of its number: a resumed run, or another process, draws the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from xrecon.augmentation.augmenter import Augmenter, Sample
from xrecon.augmentation.settings import AugmentConfig
from xrecon.data.dataset import PreparedDataset
from xrecon.errors import ConfigError, InputError
from xrecon.models.config import HU_OFFSET, HU_SCALE
from xrecon.training.losses import Batch
from xrecon.training.run_config import Data

MOST_NUMBERS = 2**40
"""Length of the endless series of samples, for DataLoader."""


def open_data(settings: Data) -> tuple[PreparedDataset, PreparedDataset | None]:
    """Train cases, and validation cases or None where no fold is held out. Test cases are never opened.

    Raises:
        InputError: no data set, no such fold, or cases of one subset in another.
        ConfigError: a fold is held out, and the data set has none.
    """
    whole = PreparedDataset(settings.path, "train")
    if settings.fold is None:
        return whole, None
    if not whole.manifest.folds:
        raise ConfigError(
            f"data.fold is {settings.fold}, but {whole.path} has no folds: set data.fold to null (`--set "
            "data.fold=null`) to train on all train cases without validation, or prepare the data set with "
            "`xrecon prepare --folds K`"
        )
    return whole.fold(settings.fold)


class TrainingSamples(Dataset[Batch]):
    """Sample number n, for any n: the case by a permutation per epoch, the augmentation by a seed per number."""

    def __init__(self, cases: PreparedDataset, augment: AugmentConfig, *, size: int, seed: int) -> None:
        if size > cases.size or cases.size % size:
            raise InputError(
                f"the network has {size} voxels per edge, the data set {cases.size}; prepare the data at {size} or at "
                "a whole multiple of it"
            )
        self.cases, self.seed = cases, seed
        self.augmenter = Augmenter(augment, size=size, frame_mm=cases.frame_mm, beams=cases.beams)

    def __len__(self) -> int:
        return MOST_NUMBERS

    def __getitem__(self, number: int) -> Batch:
        epoch, place = divmod(number, len(self.cases))
        case = self.cases[int(_order(self.seed, epoch, len(self.cases))[place])]
        return batch_of([self.augmenter(case.load(), sample_seed(self.seed, number))])


@cache
def _order(seed: int, epoch: int, count: int) -> Sequence[int]:
    """Permutation of the cases in an epoch."""
    return tuple(np.random.default_rng((seed, 1, epoch)).permutation(count).tolist())


def sample_seed(seed: int, number: int) -> int:
    """Seed of the augmentation of sample `number`."""
    return int(np.random.SeedSequence((seed, 2, number)).generate_state(1, np.uint64)[0] >> 1)


def batch_of(samples: Sequence[Sample]) -> Batch:
    """Samples as tensors on the CPU."""

    def joined(name: str, dtype: torch.dtype) -> Tensor:
        arrays = [np.ascontiguousarray(getattr(sample, name)) for sample in samples]
        return torch.stack([torch.from_numpy(array) for array in arrays])[:, None].to(dtype)

    return Batch(
        pa=joined("pa", torch.float32),
        lateral=joined("lateral", torch.float32),
        ct=((joined("ct", torch.float32) + HU_OFFSET) / HU_SCALE).clamp_(0, 1),
        sides=joined("sides", torch.uint8),
        air=joined("air", torch.uint8),
        measured=joined("measured", torch.bool),
    )


def loader(samples: TrainingSamples, *, first: int, settings: Data, rank: int, processes: int) -> Iterator[Batch]:
    """Endless batches of one process, from global batch number `first` on.

    Batch b of all processes together holds the samples b k .. (b + 1) k - 1 with k = processes x batch_size, so several
    processes learn from the same samples as one with a larger batch.
    """

    def numbers() -> Iterator[list[int]]:
        batch = first
        while True:
            start = (batch * processes + rank) * settings.batch_size
            yield list(range(start, start + settings.batch_size))
            batch += 1

    batches: DataLoader[Batch] = DataLoader(
        samples,
        batch_sampler=_Endless(numbers),
        num_workers=settings.workers,
        collate_fn=_join,
        worker_init_fn=_single_thread,
        prefetch_factor=2 if settings.workers else None,
        multiprocessing_context="spawn" if settings.workers else None,
    )
    return iter(batches)


class _Endless:
    """Batches of sample numbers in the form that DataLoader takes: each iteration begins anew."""

    def __init__(self, numbers: Callable[[], Iterator[list[int]]]) -> None:
        self._numbers = numbers

    def __iter__(self) -> Iterator[list[int]]:
        return self._numbers()


def _join(batches: Sequence[Batch]) -> Batch:
    return Batch(**{name: torch.cat([getattr(batch, name) for batch in batches]) for name in vars(batches[0])})


def _single_thread(_worker: int) -> None:
    torch.set_num_threads(1)
