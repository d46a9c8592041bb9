"""The report of `xrecon study pneumothorax`: does the lesion survive the way through two films?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from xrecon.evaluation.studies.pneumothorax_plan import BLIND, HEALTHY_CT, OTHER, TRUE_CT
from xrecon.evaluation.studies.pneumothorax_row import StudyRow
from xrecon.evaluation.studies.pneumothorax_study import PneumothoraxReport
from xrecon.evaluation.studies.pneumothorax_summary import (
    CountedEstimate,
    FilmFigures,
    SizeFigures,
    StudyFigures,
    occupancy_pairs,
)
from xrecon.report.parts.evaluation_page import (
    PageSection,
    agreement_table,
    estimate_words,
    render_evaluation,
)
from xrecon.report.parts.evaluation_plots import (
    MIRRORED,
    CurvePoint,
    bland_altman_figure,
    curve_figure,
    scatter_figure,
)
from xrecon.report.parts.page import PageTable

_CONTROLS = (
    f"“{TRUE_CT}” is the planted CT itself on the same grid: what PTX-Seg can see there at best; nothing can be "
    f"expected of a model beyond it. “{HEALTHY_CT}” is the CT before the planting: perfect but for the lesion, so its "
    f"sensitivity is the false alarms of PTX-Seg. “{BLIND}” is the mean chest, which saw no film. “{OTHER}…” is what "
    "the model made of the next patient's films with another plant."
)
_FIGURES = "AUC: of the occupancy found, planted against healthy chests. [95 % interval] (number of chests)."
_GROUPS = (
    "Plants of one kind against all healthy chests. AUC: of the occupancy by PTX-Seg. AUC and side of the films: "
    "of the probability of free air that the film networks state, before anything is drawn. Widths are those of the "
    "largest circle that fits into the air on the PA film."
)
_FILMS = (
    "Occupancy of the whole chest, percent, as the film networks state it, against planted; the share of the chests "
    "whose truth lies in the stated interval, and the mean width of that interval in percentage points."
)
_CHANGE = (
    "Change of HU by the plant (reconstruction with it minus reconstruction without it), as a share of the true change "
    "in the true air: 1 is the whole lesion in its place, 0 nothing. The same change in the mirror image of the "
    "region, in the other lung, must stay near 0: a model that darkens both lungs has not seen where the air is."
)


def study_report(report: PneumothoraxReport) -> str:
    """The page as HTML text."""
    figures = report.statistics
    models = [name for name in figures if not name.startswith(OTHER) and name != HEALTHY_CT]
    pairs = {name: occupancy_pairs(report.rows, name) for name in models}
    sections = [
        _limits(report),
        PageSection(
            "Detection",
            [f"Detected: PTX-Seg finds at least {report.plan.detect_ml:g} mL of free air.", _FIGURES],
            [_detection(figures)],
            [(_sensitivity_figure(figures, models), "Sensitivity by planted size, with Wilson's intervals.")],
        ),
        PageSection("Controls", [_CONTROLS]),
        PageSection("By kind", [_GROUPS], [_groups(figures)]),
        *([PageSection("What the film networks say", [_FILMS], [_films(figures)])] if _with_films(figures) else []),
        PageSection(
            "How much of the lesion survives",
            [_CHANGE],
            [_preservation(figures)],
            [
                (
                    _recovered_figure(figures, models),
                    "Lesion preservation: air found on the planted side against planted.",
                ),
                (
                    _change_figure(figures, models),
                    "Share of the true change of HU, in the air and in its mirror image.",
                ),
            ],
        ),
        PageSection(
            "Occupancy: found against planted",
            ["Whole chest, percent; healthy chests count with 0."],
            [agreement_table({name: values.occupancy for name, values in figures.items()}, decimals=1)],
            [
                (scatter_figure(pairs, quantity="occupancy, %"), "Every chest."),
                (bland_altman_figure(pairs, quantity="occupancy, %"), "Bias and 95 % limits."),
            ],
        ),
        _chests(report),
    ]
    return render_evaluation(
        "Does a pneumothorax survive the reconstruction?",
        sections,
        lead="Pneumothoraces of known size were planted in CTs, filmed, reconstructed, and looked for by PTX-Seg.",
        record=report.record.to_dict(),
    )


def words(figure: CountedEstimate, *, decimals: int = 2, share: bool = False) -> str:
    """A figure with interval and denominator for people; of a share the denominator is always stated."""
    text = estimate_words(figure, decimals=decimals)
    if figure.value is None:
        return text
    if share:
        return f"{text} ({figure.n} of {figure.of})"
    return text if figure.n == figure.of else f"{text} (n = {figure.n} of {figure.of})"


def _limits(report: PneumothoraxReport) -> PageSection:
    patients = len({row["patient"] for row in report.rows})
    text = [f"{patients} patients; a figure over so few is an example with an interval, not a law."]
    text += [f"Not measured, and in no figure: {failure}." for failure in report.failures] or ["Nothing failed."]
    return PageSection("Denominators and limits", [*text, *report.notes], warn=True)


def _detection(figures: Mapping[str, StudyFigures]) -> PageTable:
    body = [
        [
            name,
            *(words(share, share=True) for share in (values.sensitivity, values.specificity, values.side)),
            words(values.auc),
            words(values.air_dice),
            f"{values.refused} of {values.chests}",
        ]
        for name, values in figures.items()
    ]
    head = ["Model", "Sensitivity", "Specificity", "Right side", "AUC of occupancy", "Dice of the air", "Refused"]
    return PageTable(head, body)


def _groups(figures: Mapping[str, StudyFigures]) -> PageTable:
    body = [
        [
            f"{name}, {group.name}",
            str(group.n),
            words(group.sensitivity, share=True),
            words(group.side, share=True),
            words(group.auc),
            "" if group.film_auc is None else words(group.film_auc),
            "" if group.film_side is None else words(group.film_side, share=True),
            words(group.air_dice),
        ]
        for name, values in figures.items()
        for group in values.by_group
    ]
    head = ["Model", "Chests", "Sensitivity", "Right side", "AUC", "AUC of the films", "Side by the films", "Dice"]
    return PageTable(head, body)


def _with_films(figures: Mapping[str, StudyFigures]) -> dict[str, FilmFigures]:
    return {name: values.films for name, values in figures.items() if values.films is not None}


def _films(figures: Mapping[str, StudyFigures]) -> PageTable:
    agreement = agreement_table({name: values.occupancy for name, values in _with_films(figures).items()}, decimals=1)
    more = [
        [words(values.covered, share=True), words(values.interval_width, decimals=1)]
        for values in _with_films(figures).values()
    ]
    rows = [[*row, *extra] for row, extra in zip(agreement.body, more, strict=True)]
    return PageTable([*agreement.head, "In the interval", "Its width"], rows)


def _preservation(figures: Mapping[str, StudyFigures]) -> PageTable:
    body = [
        [
            f"{name}, planted {size.asked:.0%}",
            words(size.planted_ml, decimals=0),
            words(size.recovered_ml, decimals=0),
            words(size.recovered_share),
            words(size.change_share),
            words(size.mirror_share),
            words(size.air_dice),
        ]
        for name, values in figures.items()
        for size in values.by_size
    ]
    head = ["Model", "Planted, mL", "Found on that side, mL", "Share found", "Change of HU", "Mirrored", "Dice"]
    return PageTable(head, body)


def _sensitivity_figure(figures: Mapping[str, StudyFigures], models: Sequence[str]) -> Figure:
    curves = {
        name: [CurvePoint.of(100 * size.asked, size.sensitivity) for size in figures[name].by_size] for name in models
    }
    return curve_figure(curves, x="planted occupancy of the side, %", y="sensitivity")


def _recovered_figure(figures: Mapping[str, StudyFigures], models: Sequence[str]) -> Figure:
    curves = {
        name: [
            CurvePoint.of(size.planted_ml.value, size.recovered_ml)
            for size in figures[name].by_size
            if size.planted_ml.value is not None and size.recovered_ml.value is not None
        ]
        for name in models
    }
    return curve_figure(curves, x="planted air, mL", y="air found on the planted side, mL", identity=True)


def _change_figure(figures: Mapping[str, StudyFigures], models: Sequence[str]) -> Figure:
    curves = {}
    for name in models:
        for suffix, share_of in (("", _change_share), (MIRRORED, _mirror_share)):
            curves[f"{name}{suffix}"] = [
                CurvePoint.of(100 * size.asked, share_of(size))
                for size in figures[name].by_size
                if share_of(size).value is not None
            ]
    return curve_figure(curves, x="planted occupancy of the side, %", y="share of the true change of HU")


def _change_share(size: SizeFigures) -> CountedEstimate:
    return size.change_share


def _mirror_share(size: SizeFigures) -> CountedEstimate:
    return size.mirror_share


def _chests(report: PneumothoraxReport) -> PageSection:
    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.0f}"

    body = [
        [
            f"{row.case}, plant {row.plant}",
            row.model,
            f"{row.side}, {row.pattern}" if row.is_planted else "none",
            f"{row.asked:.0%}",
            number(row.true.air_ml),
            number(row.volumes.right_air_ml),
            number(row.volumes.left_air_ml),
            ", ".join(row.kinds) or row.refused,
        ]
        for row in map(StudyRow.from_dict, report.rows)
    ]
    head = ["Chest", "Model", "Planted", "Occupancy", "True, mL", "Found right, mL", "Found left, mL", "PTX-Seg saw"]
    return PageSection("Every chest", tables=[PageTable(head, body)])
