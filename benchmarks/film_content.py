"""What the check of films by content says of good films and of faulty ones: verdicts and measures.

    python benchmarks/film_content.py --cts CTS --json film-content.json        # films simulated from train CTs
    python benchmarks/film_content.py --pairs FILMS                             # real pairs, pair_*_{pa,lateral}.png

The limits in xrecon.priors.film_content were chosen on the simulated films; the real pairs only check them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xrecon.films.simulation import simulate
from xrecon.priors.asset import load_priors
from xrecon.priors.deformation import mean_chest
from xrecon.priors.film_content import PairVerdict, judge_films
from xrecon.priors.films import FilmPair
from xrecon.projector.physics import film_physics
from xrecon.radiograph import VIEWS, Radiograph, load_radiograph
from xrecon.volume import load_ct

TRAIN_CASES = ("003", "004", "005", "009", "113", "120")
HERE = Path(__file__).resolve().parent.parent
Films = tuple[Radiograph, Radiograph]


def main() -> None:
    """Read the arguments, judge all films in all presentations, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cts", type=Path, default=HERE.parent / "shared" / "data" / "ct", help="folder of train CTs")
    parser.add_argument("--cases", nargs="*", default=TRAIN_CASES, help="their numbers")
    parser.add_argument("--pairs", type=Path, help="folder of real pairs to check instead")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.pairs is None and not given.cts.is_dir():
        print("skipped: give --cts or --pairs")
        return
    mean = mean_chest(load_priors(None).prior)
    sources = _real(given.pairs) if given.pairs else _simulated(given.cts, given.cases)
    rows = [
        {"source": name, "presentation": label, **_measures(judge_films(FilmPair(shown), mean))}
        for name, films in sources
        for label, present in PRESENTATIONS.items()
        for shown in [present(films)]
    ]
    for line in _table(rows):
        print(line)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def _simulated(folder: Path, cases: Sequence[str]) -> Iterator[tuple[str, Films]]:
    for case in cases:
        ct = load_ct(folder / f"case_{case}.nii.gz")
        for geometry in ("chest", "x2ct", "prost"):
            yield f"{case} linear {geometry}", simulate(ct, size=128, geometry=geometry)
        generator = torch.Generator().manual_seed(0)
        yield f"{case} clinical chest", simulate(ct, size=128, physics=film_physics("clinical"), generator=generator)


def _real(folder: Path) -> Iterator[tuple[str, Films]]:
    for path in sorted(folder.glob("pair_*_pa.png")):
        name = path.name.removesuffix("_pa.png")
        yield name, (load_radiograph(path, "pa"), load_radiograph(path.with_name(f"{name}_lateral.png"), "lateral"))


def _with_image(film: Radiograph, image: NDArray[np.float32], like: Radiograph | None = None) -> Radiograph:
    """The film with another image (of the pixels of `like`)."""
    pitch = (like or film).geometry.pixel_mm
    geometry = replace(film.geometry, detector_shape=image.shape, pixel_mm=pitch)
    return replace(film, image=np.ascontiguousarray(image), geometry=geometry)


def _each(change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Callable[[Films], Films]:
    def present(films: Films) -> Films:
        return _with_image(films[0], change(films[0].image)), _with_image(films[1], change(films[1].image))

    return present


def _cropped(share: float) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    def inner(image: NDArray[np.float32]) -> NDArray[np.float32]:
        rows, cols = (round(n * share) for n in image.shape)
        return image[rows : image.shape[0] - rows, cols : image.shape[1] - cols]

    return inner


def _exchanged(films: Films) -> Films:
    pa, lateral = films
    return _with_image(pa, lateral.image, lateral), _with_image(lateral, pa.image, pa)


def _noise(image: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.random.default_rng(0).random(image.shape, dtype=np.float32)


def _negative(image: NDArray[np.float32]) -> NDArray[np.float32]:
    return image.max() - image


PRESENTATIONS: Mapping[str, Callable[[Films], Films]] = {
    "as it is": lambda films: films,
    "cropped by 10 %": _each(_cropped(0.1)),
    "cropped by 20 %": _each(_cropped(0.2)),
    "mirrored": _each(lambda image: image[:, ::-1]),
    "inverted": _each(_negative),
    "inverted, mirrored": _each(lambda image: _negative(image)[:, ::-1]),
    "swapped": _exchanged,
    "swapped, inverted": lambda films: _exchanged(_each(_negative)(films)),
    "PA twice": lambda films: (films[0], _with_image(films[1], films[0].image, films[0])),
    "turned by 90 degrees": _each(lambda image: np.rot90(image)),
    "upside down": _each(lambda image: image[::-1]),
    "gamma 0.5": _each(lambda image: (image - image.min()) ** 0.5),
    "gamma 2": _each(lambda image: (image - image.min()) ** 2),
    "black frame": _each(lambda image: np.pad(image, 10, constant_values=image.min())),
    "white frame": _each(lambda image: np.pad(image, 10, constant_values=image.max())),
    "noise": _each(_noise),
}


def _measures(verdict: PairVerdict) -> dict[str, Any]:
    films = {
        view: {**asdict(seen), "best": seen.likeness.best, "other_best": seen.likeness.other_best}
        for view, seen in zip(VIEWS, verdict.films, strict=True)
    }
    return {
        **films,
        "strength": min(seen.likeness.strength for seen in verdict.films),
        "polarity": min(abs(seen.likeness.polarity) for seen in verdict.films),
        "view_margin": min(seen.likeness.best - seen.likeness.other_best for seen in verdict.films),
        "swap_margin": verdict.as_given - verdict.exchanged,
        "agreement": verdict.agreement,
        "body_share": min(seen.body_share for seen in verdict.films),
        "swapped": verdict.is_swapped,
        "same": verdict.is_same_film,
        "inverted": sum(seen.is_inverted for seen in verdict.films),
        "mirrored": sum(seen.is_mirrored for seen in verdict.films),
        "other_view": sum(seen.is_other_view for seen in verdict.films),
        "no_chest": sum(seen.shows_no_chest for seen in verdict.films),
        "turned": int(verdict.turn_deg != 0 or any(seen.turn_deg for seen in verdict.films)),
        "framed": sum(seen.has_white_frame for seen in verdict.films),
    }


def _table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Counts of the verdicts, and the least (agreement: largest) of each measure, by presentation."""
    counts = ("swapped", "same", "inverted", "mirrored", "other_view", "no_chest", "turned", "framed")
    measures = ("strength", "polarity", "view_margin", "swap_margin", "body_share")
    yield (
        "| presentation | pairs | " + " | ".join((*counts, *(f"least {m}" for m in measures), "most agreement")) + " |"
    )
    yield "|---" * (3 + len(counts) + len(measures)) + "|"
    for label in PRESENTATIONS:
        chosen = [row for row in rows if row["presentation"] == label]
        cells = [str(len(chosen)), *(str(sum(int(row[name]) for row in chosen)) for name in counts)]
        cells += [f"{min(row[name] for row in chosen):.2f}" for name in measures]
        cells.append(f"{max(row['agreement'] for row in chosen):.2f}")
        yield f"| {label} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
