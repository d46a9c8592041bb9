"""How well film networks find and measure free air in patients that they were not trained on: the tables of their page.

    python benchmarks/film_networks.py film-run --library films --output docs/results/film-networks.json

`film-run` was trained with `xrecon train films films -o film-run --fold K`, `films` made by `xrecon prepare-films`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from xrecon.environment import run_environment
from xrecon.evaluation.film_networks import FilmReport, evaluate_films
from xrecon.evaluation.statistics.agreement import Agreement, Estimate, TooFewPairs
from xrecon.inference.film_findings import networks_folder
from xrecon.io.output.atomic import write_json_atomic
from xrecon.models.checkpoint import load_information
from xrecon.training.films.calibration import calibrate, probabilities
from xrecon.training.films.film_validation import AT_LEAST, HEALTHY, FilmScore
from xrecon.volume import RESEARCH_NOTICE


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print markdown, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, nargs="?", default=networks_folder("default"))
    parser.add_argument("--library", type=Path)
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args(arguments)
    if options.library is None:
        print("film networks: give --library FOLDER, made by `xrecon prepare-films`")
        return 0
    report, scores = evaluate_films(options.model, options.library, pairs=options.pairs)
    information = load_information(options.model)
    print(f"{report.pairs}, cases {', '.join(sorted({s.case for s in scores}))}\n")
    _print(report)
    calibrated = _calibrated(scores)
    print("\ncalibrated on three cases, measured on the fourth:")
    for name, value in calibrated.items():
        print(f"{name}: {value:.3f}")
    if options.output is not None:
        values = {
            "notice": RESEARCH_NOTICE,
            "command": f"python benchmarks/film_networks.py film-run --library films --pairs {options.pairs}",
            "weights": information.sha256,
            "training": information.metrics,
            "cases": sorted({s.case for s in scores}),
            "report": asdict(report),
            "calibrated_on_other_cases": calibrated,
            "environment": run_environment(),
        }
        write_json_atomic(options.output, values, overwrite=True)
    return 0


def _print(report: FilmReport) -> None:
    print("| free air | against all healthy pairs | plain ones | with other air |")
    print("|---|--:|--:|--:|")
    for name, areas in report.areas.items():
        words = [_words(areas[control]) for control in ("all", "plain", "confounders")]
        print(f"| {name.replace('_', ' ')} | {' | '.join(words)} |")
    print(f"\nside: {_words(report.side_accuracy)}")
    for name, agreement in (("volume, mL", report.volume_ml), ("occupancy of the chest", report.occupancy)):
        print(f"{name}: {_agreement(agreement)}")
    for name, values in report.false_air_ml.items():
        words = "none" if values is None else f"median {values[0]:.0f}, 90 % {values[1]:.0f} mL"
        print(f"false air, {name}: {words}")


def _words(estimate: Estimate) -> str:
    if estimate.value is None:
        return ""
    interval = "" if estimate.low is None else f" [{estimate.low:.2f}, {estimate.high:.2f}]"
    return f"{estimate.value:.3f}{interval}"


def _agreement(agreement: Agreement | TooFewPairs) -> str:
    if isinstance(agreement, TooFewPairs):
        return "too few pairs"
    return f"r {_words(agreement.pearson)}, n {agreement.n}, bias {_words(agreement.bland_altman.bias)}"


def _calibrated(scores: Sequence[FilmScore]) -> dict[str, float]:
    """What a calibration on three cases makes of the fourth, over all cases: threshold, occupancy, interval."""
    healthy, large, errors, held = [], [], [], []
    for case in sorted({s.case for s in scores}):
        calibration = calibrate([s for s in scores if s.case != case], networks=["0" * 64])
        limit = calibration.presence.threshold
        for s in (s for s in scores if s.case == case):
            chances = probabilities(calibration, s)
            estimate = calibration.occupancy(s.air_by_side_ml, s.lungs_by_side_ml, chances)
            truth = 100.0 * s.whole_chest
            errors.append(abs(estimate.percent - truth))
            held.append(estimate.low <= truth <= estimate.high)
            if s.side == HEALTHY:
                healthy.append(max(chances) < limit)
            elif s.is_upright and s.occupancy >= AT_LEAST:
                large.append(chances[s.side] >= limit)
    return {
        "specificity": float(np.mean(healthy)),
        "sensitivity_upright_10": float(np.mean(large)),
        "occupancy_mae_points": float(np.mean(errors)),
        "interval_coverage": float(np.mean(held)),
    }


if __name__ == "__main__":
    raise SystemExit(main())
