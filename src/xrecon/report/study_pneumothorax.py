"""The report of `xrecon study pneumothorax`: does the lesion survive the way through two films?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xrecon.evaluation.pneumothorax_study import BLIND, HEALTHY_CT, OTHER, TRUE_CT, StudyResults
from xrecon.evaluation.pneumothorax_summary import occupancy_pairs
from xrecon.report.parts.evaluation_page import PageSection, PageTable, agreement_table, render_evaluation
from xrecon.report.parts.evaluation_plots import MIRRORED, bland_altman_figure, curve_figure, scatter_figure

_CONTROLS = (
    f"“{TRUE_CT}” is the planted CT itself on the same grid: what PTX-Seg can see there at best; nothing can be "
    f"expected of a model beyond it. “{HEALTHY_CT}” is the CT before the planting: perfect but for the lesion, so its "
    f"sensitivity is the false alarms of PTX-Seg. “{BLIND}” is the mean chest, which saw no film. “{OTHER}…” is what "
    "the model made of the next patient's films with another plant."
)
_FIGURES = "AUC: of the occupancy found, planted against healthy chests. [95 % interval] (number of chests)."
_CHANGE = (
    "Change of HU by the plant (reconstruction with it minus reconstruction without it), as a share of the true change "
    "in the true air: 1 is the whole lesion in its place, 0 nothing. The same change in the mirror image of the "
    "region, in the other lung, must stay near 0: a model that darkens both lungs has not seen where the air is."
)


def study_report(results: StudyResults, *, summary: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """The page as HTML text.

    Args:
        results: rows and failures.
        summary: `summary.json`: `results` of `summarise_study`, `notes`, `detect_ml`.
        record: what made it.
    """
    found: Mapping[str, Mapping[str, Any]] = summary["results"]
    models = [name for name in found if not name.startswith(OTHER) and name != HEALTHY_CT]
    pairs = {name: occupancy_pairs(results.rows, name) for name in models}
    sections = [
        _limits(results, summary),
        PageSection(
            "Detection",
            [f"Detected: PTX-Seg finds at least {summary['detect_ml']:g} mL of free air.", _FIGURES],
            [_detection(found)],
            [(_sensitivity_figure(found, models), "Sensitivity by planted size, with Wilson's intervals.")],
        ),
        PageSection("Controls", [_CONTROLS]),
        PageSection(
            "How much of the lesion survives",
            [_CHANGE],
            [_preservation(found)],
            [
                (
                    _recovered_figure(found, models),
                    "Lesion preservation: air found on the planted side against planted.",
                ),
                (
                    _change_figure(found, models),
                    "Share of the true change of HU, in the air and in its mirror image.",
                ),
            ],
        ),
        PageSection(
            "Occupancy: found against planted",
            ["Whole chest, percent; healthy chests count with 0."],
            [agreement_table({name: found[name]["occupancy"] for name in found}, decimals=1)],
            [
                (scatter_figure(pairs, quantity="occupancy, %"), "Every chest."),
                (bland_altman_figure(pairs, quantity="occupancy, %"), "Bias and 95 % limits."),
            ],
        ),
        _chests(results),
    ]
    return render_evaluation(
        "Does a pneumothorax survive the reconstruction?",
        sections,
        lead="Pneumothoraces of known size were planted in CTs, filmed, reconstructed, and looked for by PTX-Seg.",
        record=record,
    )


def words(value: Mapping[str, Any] | None, *, decimals: int = 2, share: bool = False) -> str:
    """A figure with interval and denominator for people."""
    if value is None or value["value"] is None:
        return "–"
    text = f"{value['value']:.{decimals}f}"
    if value["low"] is not None:
        text += f" [{value['low']:.{decimals}f}, {value['high']:.{decimals}f}]"
    if share:
        return f"{text} ({value['n']} of {value['of']})"
    return text if value["n"] == value["of"] else f"{text} (n = {value['n']} of {value['of']})"


def _limits(results: StudyResults, summary: Mapping[str, Any]) -> PageSection:
    patients = len({row["patient"] for row in results.rows})
    text = [f"{patients} patients; a figure over so few is an example with an interval, not a law."]
    text += [f"Not measured, and in no figure: {one}." for one in results.failures] or ["Nothing failed."]
    return PageSection("Denominators and limits", [*text, *summary["notes"]], warn=True)


def _detection(found: Mapping[str, Mapping[str, Any]]) -> PageTable:
    body = [
        [
            name,
            *(words(one[key], share=True) for key in ("sensitivity", "specificity", "side")),
            words(one["auc"]),
            words(one["air_dice"]),
            f"{one['refused']} of {one['chests']}",
        ]
        for name, one in found.items()
    ]
    head = ["Model", "Sensitivity", "Specificity", "Right side", "AUC of occupancy", "Dice of the air", "Refused"]
    return PageTable(head, body)


def _preservation(found: Mapping[str, Mapping[str, Any]]) -> PageTable:
    body = [
        [
            f"{name}, planted {one['asked']:.0%}",
            words(one["planted_ml"], decimals=0),
            words(one["recovered_ml"], decimals=0),
            words(one["recovered_share"]),
            words(one["change_share"]),
            words(one["mirror_share"]),
            words(one["air_dice"]),
        ]
        for name, values in found.items()
        for one in values["by_size"]
    ]
    head = ["Model", "Planted, mL", "Found on that side, mL", "Share found", "Change of HU", "Mirrored", "Dice"]
    return PageTable(head, body)


def _sensitivity_figure(found: Mapping[str, Mapping[str, Any]], models: Sequence[str]) -> Any:
    curves = {
        name: [(100 * one["asked"], *_ends(one["sensitivity"])) for one in found[name]["by_size"]] for name in models
    }
    return curve_figure(curves, x="planted occupancy of the side, %", y="sensitivity")


def _recovered_figure(found: Mapping[str, Mapping[str, Any]], models: Sequence[str]) -> Any:
    curves = {
        name: [
            (one["planted_ml"]["value"], *_ends(one["recovered_ml"]))
            for one in found[name]["by_size"]
            if one["recovered_ml"]["value"] is not None
        ]
        for name in models
    }
    return curve_figure(curves, x="planted air, mL", y="air found on the planted side, mL", identity=True)


def _change_figure(found: Mapping[str, Mapping[str, Any]], models: Sequence[str]) -> Any:
    curves = {
        f"{name}{suffix}": [
            (100 * one["asked"], *_ends(one[key])) for one in found[name]["by_size"] if one[key]["value"] is not None
        ]
        for name in models
        for key, suffix in (("change_share", ""), ("mirror_share", MIRRORED))
    }
    return curve_figure(curves, x="planted occupancy of the side, %", y="share of the true change of HU")


def _ends(value: Mapping[str, Any]) -> tuple[float, float | None, float | None]:
    return float(value["value"] or 0.0), value["low"], value["high"]


def _chests(results: StudyResults) -> PageSection:
    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.0f}"

    body = [
        [
            f"{row['case']}, plant {row['plant']}",
            row["model"],
            f"{row['side']}, {row['pattern']}" if row["asked"] else "none",
            f"{row['asked']:.0%}",
            number(row["true"]["air_ml"]),
            number(row["found"]["right_air_ml"]),
            number(row["found"]["left_air_ml"]),
            ", ".join(row.get("kinds", ())) or str(row.get("refused", "")),
        ]
        for row in results.rows
    ]
    head = ["Chest", "Model", "Planted", "Occupancy", "True, mL", "Found right, mL", "Found left, mL", "PTX-Seg saw"]
    return PageSection("Every chest", tables=[PageTable(head, body)])
