"""The demo: a CT whose answer is known, projected to two films, reconstructed by every model and compared."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from xrecon.evaluation.cases import prepare_case
from xrecon.evaluation.metrics.image import ImageMetrics, image_metrics
from xrecon.evaluation.pneumothorax_story import StoryChest, story_or_note
from xrecon.geometry import FRAME_MM
from xrecon.inference.models import baseline_names
from xrecon.inference.reconstruct import reconstruct
from xrecon.inference.result import Reconstruction
from xrecon.io.sample import SAMPLE_CREDIT, SAMPLE_HELP, find_lidc_sample
from xrecon.phantoms.thorax import thorax_phantom
from xrecon.volume import Volume, load_ct

_PHANTOM_SIZE = 128
_SAMPLE_NAME, _PHANTOM_NAME = "LIDC-IDRI-0001", "artificial thorax"
_HELD_OUT = "The shipped priors have not seen this patient, a test case."
_OWN_PRIORS = "Priors of your own: whether this patient was among their training cases is not known."
_ONE_PATIENT = "One patient is an example, not an evaluation: see `xrecon evaluate`."


@dataclass(frozen=True, eq=False)
class Demo:
    """The results of the demo.

    Attributes:
        reconstruction: of the last model, the one that pictures show.
        truth: the true CT on the grid of the reconstruction.
        metrics: by model.
        subject: name of the CT.
        credit: source and licence of the CT; empty for the artificial thorax.
        notes: what a reader has to know about the CT and the models.
        is_phantom: the CT is artificial.
        runtime: step -> seconds.
        peak_memory_mib: of the process; None where the system does not tell.
        story: the chest healthy and with a planted pneumothorax; None where that could not be shown (a note says why).
    """

    reconstruction: Reconstruction
    truth: Volume
    metrics: Mapping[str, ImageMetrics]
    subject: str
    credit: str
    notes: tuple[str, ...]
    is_phantom: bool
    runtime: Mapping[str, float]
    peak_memory_mib: float | None
    story: tuple[StoryChest, StoryChest] | None = None


def run_demo(
    *,
    size: int = 224,
    phantom: bool = False,
    assets: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> Demo:
    """Run the demo on the real sample CT, or on the phantom if that is asked for or the sample is not installed.

    Args:
        size: voxels per edge of the reconstruction, 64..256.
        phantom: use the phantom in any case.
        assets: priors file; default the shipped one.
        device: torch device.
        seed: of random choices.
        progress: called with a line of text at each stage.

    Raises:
        InputError: a size out of range.
        MissingPartError: no priors.
    """
    runtime: dict[str, float] = {}
    started = time.perf_counter()
    ct, subject, notes, credit = _subject(phantom, progress)
    if credit:
        notes = (_HELD_OUT if assets is None else _OWN_PRIORS, *notes)
    runtime["reading the CT"] = time.perf_counter() - started
    progress("films: removing the table, projecting")
    started = time.perf_counter()
    case = prepare_case(subject, ct, size=size, device=device)
    runtime["truth and films"] = time.perf_counter() - started
    models = baseline_names()
    metrics = {}
    for model in models:
        started = time.perf_counter()
        result = reconstruct(
            *case.films, model=model, size=size, assets=assets, device=device, seed=seed, progress=progress
        )
        runtime[f"reconstruction, {model}"] = time.perf_counter() - started
        started = time.perf_counter()
        metrics[model] = image_metrics(true=case.truth, estimate=result.volume, body=case.body)
        runtime[f"metrics, {model}"] = time.perf_counter() - started
    started = time.perf_counter()
    story, reason = story_or_note(ct, size=size, assets=assets, device=device, seed=seed, progress=progress)
    runtime["pneumothorax, healthy and sick"] = time.perf_counter() - started
    notes = (*notes, *([reason] if reason else []))
    notes = (*notes, f"The pictures show the model {models[-1]}; the metrics compare all of them.")
    return Demo(
        result, case.truth, metrics, subject, credit, notes, is_phantom=not credit, runtime=runtime,
        peak_memory_mib=peak_memory_mib(), story=story,
    )  # fmt: skip


def _subject(phantom: bool, progress: Callable[[str], None]) -> tuple[Volume, str, tuple[str, ...], str]:
    """The CT, its name, what to say about it, and its credit (empty for the phantom)."""
    sample = None if phantom else find_lidc_sample()
    if sample is not None:
        progress(f"the real sample CT: {_SAMPLE_NAME}")
        return load_ct(sample), _SAMPLE_NAME, (_ONE_PATIENT,), SAMPLE_CREDIT
    why = "was asked for" if phantom else f"stands in: the real sample CT is not installed ({SAMPLE_HELP})"
    progress(f"the {_PHANTOM_NAME} {why}")
    phantom_ct = thorax_phantom(_PHANTOM_SIZE, FRAME_MM / _PHANTOM_SIZE)
    note = (
        f"This is no patient: an {_PHANTOM_NAME} {why}. Its smooth organs are unlike the chests that the priors know, "
        "so the figures say nothing about real patients."
    )
    return phantom_ct.volume, _PHANTOM_NAME, (note,), ""


def peak_memory_mib() -> float | None:
    """Largest resident memory of this process so far, MiB; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes there, KiB elsewhere
