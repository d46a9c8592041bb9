"""The view that a DICOM film states: codes, retired terms and the words that vendors write into ViewPosition.

Nothing of the file is repeated: a statement is shown in the words of the vocabulary below, everything else of it is
left out, since a free text may hold a name.
"""

from __future__ import annotations

import re
from typing import Any

from xrecon.io.dicom.pixels import text
from xrecon.io.raw import StatedView

_CODES = {
    # DICOM PS3.16, context groups 4010 (DX View) and 26 (projections of nuclear medicine): SNOMED CT, SNOMED RT.
    "399348003": "AP", "R-10206": "AP",
    "272479007": "PA", "R-40888": "PA", "R-10214": "PA",
    "399033003": "FRONTAL", "R-10202": "FRONTAL",
    "399321004": "AP", "G-5215": "AP",
    "399001007": "PA", "G-5216": "PA",
    "399067008": "LATERAL", "R-102CD": "LATERAL", "49370004": "LATERAL", "G-A104": "LATERAL",
    "399173006": "LEFT LATERAL", "R-10236": "LEFT LATERAL", "399118008": "LEFT LATERAL", "G-5223": "LEFT LATERAL",
    "399198007": "RIGHT LATERAL", "R-10232": "RIGHT LATERAL", "399297009": "RIGHT LATERAL", "G-5222": "RIGHT LATERAL",
    "399312000": "AP OBLIQUE", "R-10208": "AP OBLIQUE", "399059000": "PA OBLIQUE", "R-10216": "PA OBLIQUE",
    "399160007": "FRONTAL OBLIQUE", "R-10204": "FRONTAL OBLIQUE",
    "399132005": "FRONTAL OBLIQUE AXIAL", "R-10252": "FRONTAL OBLIQUE AXIAL",
    "399182000": "OBLIQUE", "R-102C1": "OBLIQUE", "21114003": "OBLIQUE", "G-A472": "OBLIQUE",
    "399184004": "OBLIQUE", "R-10238": "OBLIQUE", "399236003": "OBLIQUE", "R-10234": "OBLIQUE",
    "260427002": "LATERAL OBLIQUE", "R-40783": "LATERAL OBLIQUE",
    "260421001": "LLO", "260424009": "RLO",
    "399135007": "LAO", "R-10220": "LAO", "399074003": "LAO", "G-5207": "LAO",
    "399006002": "LPO", "R-10212": "LPO", "399136008": "LPO", "G-5209": "LPO",
    "399356000": "RAO", "R-40985": "RAO", "399108003": "RAO", "G-5206": "RAO",
    "399038007": "RPO", "R-10210": "RPO", "399075002": "RPO", "G-5208": "RPO",
    "399061009": "AXIAL", "R-10241": "AXIAL", "24422004": "AXIAL", "G-A147": "AXIAL",
    "399004004": "OBLIQUE AXIAL", "R-10246": "OBLIQUE AXIAL", "399110001": "TANGENTIAL", "R-102C2": "TANGENTIAL",
}  # fmt: skip
_TERMS = {
    "PA": ("PA",), "AP": ("AP",), "FRONTAL": ("FRONTAL",), "FACE": ("FRONTAL",),
    "POSTEROANTERIOR": ("PA",), "POSTERIORANTERIOR": ("PA",), "POSTERIORTOANTERIOR": ("PA",),
    "ANTEROPOSTERIOR": ("AP",), "ANTERIORPOSTERIOR": ("AP",), "ANTERIORTOPOSTERIOR": ("AP",),
    "LATERAL": ("LATERAL",), "LAT": ("LATERAL",), "LATERALE": ("LATERAL",), "LATERALIS": ("LATERAL",),
    "PROFIL": ("LATERAL",), "PROFILE": ("LATERAL",), "SEITLICH": ("LATERAL",), "SEITL": ("LATERAL",),
    "LL": ("LEFT", "LATERAL"), "LLAT": ("LEFT", "LATERAL"), "LTLAT": ("LEFT", "LATERAL"), "LATL": ("LEFT", "LATERAL"),
    "RL": ("RIGHT", "LATERAL"), "RLAT": ("RIGHT", "LATERAL"), "RTLAT": ("RIGHT", "LATERAL"),
    "LATR": ("RIGHT", "LATERAL"), "XTLAT": ("XTABLE", "LATERAL"), "XTLATERAL": ("XTABLE", "LATERAL"),
    "LEFT": ("LEFT",), "LT": ("LEFT",), "L": ("LEFT",), "RIGHT": ("RIGHT",), "RT": ("RIGHT",), "R": ("RIGHT",),
    "LLD": ("LLD",), "RLD": ("RLD",), "LLDEC": ("LLD",), "RLDEC": ("RLD",), "LDEC": ("LLD",), "RDEC": ("RLD",),
    "DECUBITUS": ("DECUBITUS",), "DECUB": ("DECUBITUS",), "DECUBITIS": ("DECUBITUS",), "DEC": ("DECUBITUS",),
    "DORSAL": ("DORSAL",), "VENTRAL": ("VENTRAL",),
    "OBLIQUE": ("OBLIQUE",), "OBL": ("OBLIQUE",), "OBLIQ": ("OBLIQUE",),
    "RAO": ("RAO",), "LAO": ("LAO",), "RPO": ("RPO",), "LPO": ("LPO",), "RLO": ("RLO",), "LLO": ("LLO",),
    "LORDOTIC": ("LORDOTIC",), "LORD": ("LORDOTIC",), "APICAL": ("LORDOTIC",), "APL": ("AP", "LORDOTIC"),
    "AXIAL": ("AXIAL",), "AX": ("AXIAL",), "TANGENTIAL": ("TANGENTIAL",), "SWIMMERS": ("SWIMMERS",),
    "XTABLE": ("XTABLE",), "CROSSTABLE": ("XTABLE",), "XTL": ("XTABLE", "LATERAL"),
    "SUPINE": ("SUPINE",), "PRONE": ("PRONE",), "RECUMBENT": ("RECUMBENT",), "LYING": ("RECUMBENT",),
    "LIEGEND": ("RECUMBENT",), "PORTABLE": ("PORTABLE",), "PORT": ("PORTABLE",), "MOBILE": ("PORTABLE",),
    "BEDSIDE": ("PORTABLE",), "SITTING": ("SITTING",), "SEMIERECT": ("SEMIERECT",), "SEMIUPRIGHT": ("SEMIERECT",),
    "ERECT": (), "UPRIGHT": (), "STANDING": (), "CHEST": (), "THORAX": (), "CXR": (), "VIEW": (), "PROJECTION": (),
    "CC": ("CC",), "MLO": ("MLO",), "ML": ("ML",), "LM": ("LM",), "LMO": ("LMO",), "XCCL": ("XCCL",),
}  # fmt: skip
_JOINED = (
    "POSTERO ANTERIOR", "POSTERIOR ANTERIOR", "POSTERIOR TO ANTERIOR", "ANTERO POSTERIOR", "ANTERIOR POSTERIOR",
    "ANTERIOR TO POSTERIOR", "P A", "A P", "L L", "R L", "CROSS TABLE", "X TABLE", "SEMI ERECT", "SEMI UPRIGHT",
    "L L D", "R L D", "R A O", "L A O", "R P O", "L P O",
)  # fmt: skip
"""Words that belong together, longest first where one begins another."""
_UNUSUAL = {
    "LLD": "left lateral decubitus",
    "RLD": "right lateral decubitus",
    "RAO": "right anterior oblique",
    "LAO": "left anterior oblique",
    "RPO": "right posterior oblique",
    "LPO": "left posterior oblique",
    "RLO": "right lateral oblique",
    "LLO": "left lateral oblique",
    "DECUBITUS": "", "DORSAL": "", "VENTRAL": "", "OBLIQUE": "", "LORDOTIC": "", "AXIAL": "", "TANGENTIAL": "",
    "SWIMMERS": "", "XTABLE": "cross-table", "SUPINE": "", "PRONE": "", "RECUMBENT": "", "PORTABLE": "",
    "SITTING": "", "SEMIERECT": "", "CC": "a mammogram's view", "MLO": "a mammogram's view",
    "ML": "a mammogram's view", "LM": "a mammogram's view", "LMO": "a mammogram's view", "XCCL": "a mammogram's view",
}  # fmt: skip
"""Terms beside the plain views, and what they mean where that is not plain."""


def stated_view(dataset: Any) -> StatedView | None:
    """The view by ViewPosition and ViewCodeSequence; None where both are silent."""
    position = view_of_words(text(dataset, "ViewPosition"))
    codes = [view for item in _items(dataset) if (view := _view_of_code(item)) is not None]
    known = [view for view in (position, *codes) if view is not None and not view.is_unknown]
    beams = {view.beam for view in known if view.beam is not None}
    if len({_family(beam) for beam in beams}) > 1:
        return StatedView(None, " against ".join(dict.fromkeys(view.words for view in known)), is_contradictory=True)
    for view in known:
        if view.is_contradictory:
            return view
    if not known:
        return position or (codes[0] if codes else None)
    exact = [view for view in known if view.beam not in (None, "frontal")]
    first = (exact or known)[0]
    if first.is_unusual:
        return first
    unusual = [view for view in known if view.is_unusual]
    words = " ".join(dict.fromkeys(view.words for view in (first, *unusual)))
    return StatedView(first.beam, words, is_unusual=bool(unusual))


def view_of_words(words: str) -> StatedView | None:
    """The view that words of a file state; None for no words at all."""
    plain = re.sub(r"[^A-Z]+", " ", words.upper()).strip()
    if not plain:
        return StatedView(None, "", is_unknown=True) if words.strip() else None
    padded = f" {plain} "
    for phrase in sorted(_JOINED, key=len, reverse=True):
        padded = padded.replace(f" {phrase} ", f" {phrase.replace(' ', '')} ")
    terms = list(dict.fromkeys(term for word in padded.split() for term in _TERMS.get(word, ())))
    if not set(terms) - {"LEFT", "RIGHT"}:
        return StatedView(None, "", is_unknown=True)
    return _view_of_terms(terms)


def _view_of_terms(terms: list[str]) -> StatedView:
    stated = set(terms)
    unusual = [term for term in terms if term in _UNUSUAL]
    meanings = [_UNUSUAL[term] for term in dict.fromkeys(unusual) if _UNUSUAL[term]]
    words = " ".join(terms) + (f" ({', '.join(dict.fromkeys(meanings))})" if meanings else "")
    decubitus = stated & {"LLD", "RLD"} or ("DECUBITUS" in stated and not stated & {"DORSAL", "VENTRAL"})
    frontal = stated & {"PA", "AP", "FRONTAL"}
    lateral = bool(stated & {"LATERAL", "RLO", "LLO"}) and not decubitus
    if (frontal and lateral) or {"PA", "AP"} <= stated or (lateral and {"LEFT", "RIGHT"} <= stated):
        return StatedView(None, words, is_contradictory=True)
    beam = None
    if frontal:
        beam = "pa" if "PA" in stated else "ap" if "AP" in stated else "frontal"
    elif lateral or ("DECUBITUS" in stated and not decubitus):  # on the back with a horizontal beam: a lateral film
        oblique = stated & {"RLO", "LLO", "OBLIQUE"}
        beam = "right_lateral" if "RIGHT" in stated and not oblique else "lateral"
    elif decubitus or "LORDOTIC" in stated:
        beam = "frontal"
    return StatedView(beam, words, is_unusual=bool(unusual))


def _items(dataset: Any) -> list[Any]:
    try:
        items = list(dataset.get("ViewCodeSequence") or [])
        modifiers = [more for item in items for more in (item.get("ViewModifierCodeSequence") or [])]
    except (AttributeError, TypeError):  # no sequence at all
        return []
    return items + modifiers


def _view_of_code(item: Any) -> StatedView | None:
    term = _CODES.get(text(item, "CodeValue")) or _CODES.get(text(item, "LongCodeValue"))
    by_meaning = view_of_words(text(item, "CodeMeaning"))
    by_code = None if term is None else view_of_words(term)
    if by_code is None or by_meaning is None or by_meaning.is_unknown:
        return by_code or by_meaning
    if by_code.beam and by_meaning.beam and by_code.beam != by_meaning.beam:
        # Exporters that write the wrong code beside the right words are known, and so is the reverse.
        return StatedView(None, f"{by_code.words} against {by_meaning.words}", is_contradictory=True)
    return by_meaning if by_code.beam in (None, "frontal") and by_meaning.beam else by_code


def _family(beam: str) -> str:
    return "lateral" if beam.endswith("lateral") else "frontal"
