"""One model to evaluate out of one or several: as it is, an ensemble, or a soup of weights."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Literal

from insonate.data import Batch, Loader, Manifest, ManifestDataset
from insonate.errors import ModelError
from insonate.hub import Model, ensemble, load, soup_of

SOUP_BATCHES, BATCH = 200, 16
"""training batches from which a soup's normalisation learns its statistics anew"""


def together(
    sources: Sequence[str], fuse: Literal["median", "geometric", "soup"], trained: Manifest
) -> Model:
    """The model of one source, or what several give together.

    Args:
        sources: model folders or hub ids.
        fuse: of several: the median of their points, or a soup.
        trained: with the rows of split "train" that a soup is given.

    Raises:
        ModelError: they do not fit together; or a soup of one.
        ManifestError: a soup is asked for and there are no training rows.
    """
    models = [load(source) for source in sources]
    if len(models) == 1:
        if fuse == "soup":
            raise ModelError("--fuse soup", "there is one model", "Name the others with --member")
        return models[0]
    return soup_of(models, training_batches(models[0], trained)) if fuse == "soup" else ensemble(models, fuse)


def training_batches(model: Model, manifest: Manifest) -> Iterator[Batch]:
    """Up to 200 batches of the training split, not augmented.

    Raises:
        ManifestError: there is no training split.
    """
    rows = manifest.select(split="train")
    target = None if model.task is None else model.task.target()
    dataset = ManifestDataset(rows, model.format, target)
    loader = Loader(dataset, min(BATCH, len(dataset)), seed=0)
    yield from itertools.islice(loader.epoch(0), SOUP_BATCHES)
