"""Where things are in the analytic thorax: landmarks, profiles, and the surfaces of cavity, diaphragm and mediastinum.

All lengths follow from `ThoraxParameters`. The proportions are those of an adult chest (thoracic spine 1.27 times the
height of the lung, dome of the diaphragm at the tenth vertebra at full inspiration, left dome 11 mm lower, carina at
the fifth vertebra, two thirds of the heart to the left); they are set by hand and not fitted to any patient.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from xrecon.phantoms.parameters import ThoraxParameters
from xrecon.phantoms.shapes import Floats, Point, Window, curve, ellipsoid, section, smooth_union, tube

RIB_MM = 9.0
"""From the pleura to the outer surface of the ribs."""

SIDES: Mapping[str, float] = {"right": -1.0, "left": 1.0}
"""The patient's side -> sign of x."""

_CAGE_POWER = 2.4

# Fractions of the half-width and half-depth of the cage, against depth below the apex in lung heights.
_WIDTH = ((-0.5, 0.38), (-0.2, 0.42), (0, 0.52), (0.06, 0.61), (0.15, 0.74), (0.3, 0.88), (0.5, 0.97), (0.72, 1.0))
_WIDTH_LOW = ((1.0, 0.99), (1.25, 0.95), (1.6, 0.90))
_DEPTH = ((-0.5, 0.44), (0, 0.5), (0.1, 0.6), (0.25, 0.78), (0.45, 0.93), (0.65, 1.0), (1.0, 1.0), (1.3, 0.95))
_SHOULDER = ((-0.5, 0.42), (-0.26, 0.47), (-0.16, 0.64), (-0.07, 0.92), (0.03, 1.08), (0.14, 1.15), (0.3, 1.16))
_SHOULDER_LOW = ((0.5, 1.14), (0.75, 1.13), (1.0, 1.12), (1.3, 1.09), (1.6, 1.07))


@lru_cache(maxsize=8)
def _interpolator(points: tuple[tuple[float, float], ...]) -> Any:
    at, values = np.array(points).T
    return PchipInterpolator(at, values)


def _profile(points: tuple[tuple[float, float], ...], depth: Any) -> Any:
    return _interpolator(points)(np.clip(depth, points[0][0], points[-1][0])).astype(np.float32)


class Anatomy:
    """Landmarks (mm, LPS) and signed distances of one habitus.

    Attributes:
        half_width, half_depth: of the pleural cage at its widest.
        apex_z, dome_z: top of the lungs; tops of the right and left dome, by side.
        carina, hilum: bifurcation of the trachea; where the bronchus enters each lung, by side.
        heart: centre of the heart.
    """

    def __init__(self, parameters: ThoraxParameters) -> None:
        self.parameters = p = parameters
        self.height = p.lung_height_mm
        self.half_width = p.chest_width_mm / 2 - RIB_MM
        self.half_depth = p.chest_depth_mm / 2 - RIB_MM
        self.apex_z = 0.5 * self.height + 18.0
        right_dome = self.apex_z - self.height + 0.2 * self.height * (1.0 - p.inspiration)
        self.dome_z = {"right": right_dome, "left": right_dome - 11.0}
        chest = p.chest_width_mm / 285.0 * p.chest_depth_mm / 190.0 * p.lung_height_mm / 225.0
        self.heart_size = p.heart_scale * chest ** (1 / 3)
        low = min(self.dome_z["right"] - 16.0 + 42.0 * self.heart_size, self.level(6.6))
        self.heart: Point = (17.0 * self.heart_size, self._heart_y(low), low)
        z = self.level(5.0)
        self.carina: Point = (-4.0, float(self.spine_y(z)) - 40.0, z)
        y = float(self.spine_y(z - 24.0)) - 38.0
        self.hilum: dict[str, Point] = {"right": (-38.0, y + 2.0, z - 30.0), "left": (40.0, y + 6.0, z - 20.0)}

    # ---- spine and cage ----------------------------------------------------------------------------------------

    def level(self, vertebra: float) -> float:
        """Height z of the centre of thoracic vertebra 1..12 (fractions between; <= 0 cervical, > 12 lumbar)."""
        pitch = 1.27 * self.height / 12
        steps = vertebra - 1.0
        # Vertebrae grow downwards: the pitch goes linearly from 0.8 of its mean at T1 to 1.2 at T12.
        return float(self.apex_z - 2.0 - pitch * (0.8 * steps + 0.4 * steps * (steps - 1) / 22))

    def pitch(self, vertebra: float) -> float:
        """Distance between the centres of neighbouring vertebrae, mm."""
        return self.level(vertebra - 0.5) - self.level(vertebra + 0.5)

    def _heart_y(self, z: float) -> float:
        front, back = float(self.front_y(z)), float(self.spine_y(z)) - 20.0
        return 0.54 * front + 0.46 * back

    def spine_y(self, z: Any) -> Any:
        """Depth y of the centres of the vertebral bodies: a bow whose back is at T7."""
        middle, reach = self.level(7.0), self.level(1.0) - self.level(7.0)
        bow = ((z - middle) / reach) ** 2
        # The bow is 1 at T1 and T13; it levels out beyond, in neck and loin.
        return self.half_depth - 36.0 - self.parameters.kyphosis_mm * 1.5 * bow / (1.0 + 0.5 * bow)

    def depth_below_apex(self, z: Any) -> Any:
        """(apex - z) in lung heights."""
        return (self.apex_z - z) / self.height

    def cage(self, z: Any) -> tuple[Any, Any, Any]:
        """Half-width, half-depth and centre y of the pleural cage at heights z."""
        t = self.depth_below_apex(z)
        a = self.half_width * _profile(_WIDTH + _WIDTH_LOW, t)
        b = self.half_depth * _profile(_DEPTH, t)
        return a, b, self.spine_y(z) + 31.0 - b

    def front_y(self, z: Any) -> Any:
        """Depth y of the inner front wall in the midline."""
        _, b, centre = self.cage(z)
        return centre - b

    def cage_distance(self, x: Floats, y: Floats, z: Floats, *, outside_mm: float = 0.0) -> Floats:
        """Signed distance to the inner chest wall, or to the surface `outside_mm` beyond it."""
        a, b, centre = self.cage(z)
        return section(x, y - centre, a + outside_mm, b + outside_mm, power=_CAGE_POWER)

    def wall_points(self, angle_deg: Any, z: Any, *, side: float, outside_mm: float) -> NDArray[np.float64]:
        """Points [N, 3] of the surface `outside_mm` beyond the pleura at angles and heights [N].

        Angle 0 is the back's midline, 90 the flank, 180 the sternum; `side` is the sign of x.
        """
        angle, z = np.radians(np.atleast_1d(angle_deg)), np.atleast_1d(np.asarray(z, dtype=np.float64))
        a, b, centre = self.cage(z)
        s, c = np.sin(angle), np.cos(angle)
        x = (a + outside_mm) * np.abs(s) ** (2 / _CAGE_POWER)
        y = centre + (b + outside_mm) * np.sign(c) * np.abs(c) ** (2 / _CAGE_POWER)
        return np.stack([side * x, y, z], axis=1)

    def back_y(self, x: float, z: float, *, outside_mm: float) -> float:
        """Depth y of the back surface `outside_mm` beyond the pleura, at x."""
        a, b, centre = (float(v) for v in self.cage(np.float64(z)))
        share = min(abs(x) / (a + outside_mm), 0.98)
        return float(centre + (b + outside_mm) * (1 - share**_CAGE_POWER) ** (1 / _CAGE_POWER))

    def flesh(self, x: Floats, y: Floats, z: Floats, *, beyond_mm: float) -> Floats:
        """Signed distance to the surface of the muscles (`beyond_mm` 0) or beyond; shoulders, neck and flanks."""
        t = self.depth_below_apex(z)
        wide = self.half_width * _profile(_SHOULDER + _SHOULDER_LOW, t)
        wide = np.maximum(wide, np.where(t > 0.25, self.cage(z)[0] + 17.0, 0.0))
        front, back = self.front_y(z) - 17.0, self.spine_y(z) + 61.0
        half = (back - front) / 2 + beyond_mm
        return section(x, y - (back + front) / 2, wide + beyond_mm, half, power=2.25)

    # ---- lungs -------------------------------------------------------------------------------------------------

    def cupola_distance(self, x: Floats, y: Floats, z: Floats, side: str) -> Floats:
        """Signed distance to the rounded top of one lung."""
        middle_x = SIDES[side] * 0.37 * self.half_width
        middle_y = float(self.spine_y(self.apex_z)) - 10.0
        top = self.apex_z - (3.0 if side == "right" else 0.0)
        u, v = (x - middle_x) / (0.36 * self.half_width), (y - middle_y) / (0.46 * self.half_depth)
        # A cap that levels out below, where the cage alone shapes the lung.
        reach = u * u + v * v
        level = 1.0 + 0.3 * reach
        rise = top - 34.0 * reach / level
        steep = 68.0 / (level * level)
        slope = steep * np.sqrt((u / (0.36 * self.half_width)) ** 2 + (v / (0.46 * self.half_depth)) ** 2)
        result: Floats = ((z - rise) / np.sqrt(1 + slope**2)).astype(np.float32)
        return result

    def diaphragm_z(self, x: Floats, y: Floats) -> Floats:
        """Height of the diaphragm [.., H, W] over the plane: two domes, lower behind, and a saddle below the heart."""
        a, b, size = self.half_width, self.half_depth, self.height / 225.0
        centre_y = float(self.cage(np.float64(self.dome_z["right"]))[2])
        surfaces = []
        for side, sign in SIDES.items():
            u, v = (x - sign * 0.50 * a) / (0.52 * a), (y - centre_y + 0.1 * b) / (0.98 * b)
            bowl = (u * u + v * v) ** 1.35
            deepest = np.clip(1.35 + 0.6 * v, 1.0, 1.7)  # the recess is shallow in front, deep behind
            surfaces.append(
                self.dome_z[side] - size * (56.0 * np.minimum(bowl, deepest) + 16.0 * np.clip(v, -0.2, 1.2))
            )
        u, v = (x - 0.08 * a) / (0.5 * a), (y - centre_y + 0.25 * b) / (0.8 * b)
        saddle = self.dome_z["right"] - size * (16.0 + 40.0 * np.minimum(u * u + v * v, 3.0))
        return -smooth_union(-smooth_union_max(surfaces[0], surfaces[1]), -saddle, 12.0)

    def diaphragm_distance(self, x: Floats, y: Floats, z: Floats) -> Floats:
        """Signed distance to the abdomen's roof: negative below the diaphragm."""
        height = self.diaphragm_z(x, y)
        step = np.float32(1.0)
        slope_x, slope_y = self.diaphragm_z(x + step, y) - height, self.diaphragm_z(x, y + step) - height
        result: Floats = ((z - height) / np.sqrt(1 + slope_x**2 + slope_y**2)).astype(np.float32)
        return result

    def lung_box(self, side: str) -> tuple[Point, Point]:
        """Corners of a box that holds one pleural cavity."""
        front = float(np.min(self.front_y(np.linspace(self.apex_z, self.apex_z - 1.65 * self.height, 32))))
        back = self.half_depth + 4.0
        low, high = self.apex_z - 1.65 * self.height, self.apex_z + 6.0
        inner, outer = 12.0, self.half_width + 6.0
        if side == "right":
            return (-outer, front - 6.0, low), (inner, back, high)
        return (-inner, front - 6.0, low), (outer, back, high)

    def cavity(self, window: Window, side: str) -> Floats:
        """Signed distance [D, H, W] to one pleural cavity: what the lung fills when there is no pneumothorax."""
        x, y, z = window.x, window.y, window.z
        wall = -smooth_union(-self.cage_distance(x, y, z), -self.cupola_distance(x, y, z, side), 8.0)
        inside = np.maximum(wall, -self.diaphragm_distance(x, y, z))
        # The lungs' front edges nearly meet a little left of the midline: the anterior junction line.
        inside = np.maximum(inside, 1.6 - SIDES[side] * (x - 3.0))
        middle = self.mediastinum(window)
        result: Floats = -smooth_union(-inside, middle, 5.0)
        return result

    # ---- mediastinum -------------------------------------------------------------------------------------------

    def mediastinum(self, window: Window) -> Floats:
        """Signed distance to what parts the lungs: fat around heart, great vessels, oesophagus and spine."""
        x, y, z = window.x, window.y, window.z
        core = section(x - 1.0, y - (self.spine_y(z) - 42.0), 23.0, 36.0, power=2.5)
        spine_half = self.vertebra_half(z)
        spine = section(x, y - self.spine_y(z) - 4.0, spine_half[0] + 4.0, spine_half[1] + 16.0, power=2.2)
        result = smooth_union(core, spine, 10.0)
        result = smooth_union(result, self.heart_distance(window) - 3.0, 8.0)
        for points, radius in self.great_vessels().values():
            result = smooth_union(result, tube(window, points, radius + 3.0, reach_mm=12.0), 6.0)
        return result

    def vertebra_half(self, z: Any) -> tuple[Any, Any]:
        """Half-width and half-depth of the vertebral bodies at heights z: larger downwards."""
        t = np.clip(self.depth_below_apex(z), -0.4, 1.5)
        size = self.height / 225.0
        return (13.5 + 5.0 * t) * size, (10.5 + 5.0 * t) * size

    def heart_parts(self) -> list[tuple[Point, Point, NDArray[np.float64] | None]]:
        """Ellipsoids (centre, semi-axes, directions) of left ventricle, right ventricle, right and left atrium."""
        x, y, z = self.heart
        s = self.heart_size
        # The long axis points to the left, to the front and down; the first column of the frame.
        long_axis = np.array([0.80, -0.36, -0.48])
        long_axis /= np.linalg.norm(long_axis)
        second = np.cross([0.0, 0.0, 1.0], long_axis)
        second /= np.linalg.norm(second)
        frame = np.stack([long_axis, second, np.cross(long_axis, second)], axis=1)
        return [
            ((x + 16 * s, y + 2 * s, z - 2 * s), (60 * s, 40 * s, 41 * s), frame),
            ((x - 4 * s, y - 14 * s, z - 2 * s), (46 * s, 33 * s, 38 * s), None),
            ((x - 26 * s, y + 4 * s, z + 8 * s), (31 * s, 34 * s, 41 * s), None),
            ((x - 4 * s, y + 24 * s, z + 30 * s), (34 * s, 22 * s, 25 * s), None),
        ]

    def heart_distance(self, window: Window) -> Floats:
        """Signed distance to the heart with its pericardium."""
        x, y, z = window.x, window.y, window.z
        result: Floats | None = None
        for centre, semi_axes, frame in self.heart_parts():
            part = ellipsoid(x, y, z, centre=centre, semi_axes=semi_axes, axes=frame)
            result = part if result is None else smooth_union(result, part, 14.0)
        assert result is not None
        return result

    def great_vessels(self) -> dict[str, tuple[NDArray[np.float64], float]]:
        """Centre line [N, 3] and radius, mm, of the vessels that shape the mediastinum."""
        x, y, z = self.heart
        cx, cy, cz = self.carina
        s = self.heart_size
        arch_z = cz + 16.0

        def beside(height: float, offset: Point) -> Point:
            return offset[0], float(self.spine_y(height)) + offset[1], height + offset[2]

        aorta = [(x - 4 * s, y - 2 * s, z + 22 * s), (cx - 10, cy - 30, cz - 30), (cx - 8, cy - 28, cz)]
        aorta += [(cx + 4, cy - 18, arch_z), (cx + 22, cy + 2, arch_z + 2), beside(cz, (28.0, -20.0, 0.0))]
        aorta += [beside(self.level(v), (24.0 - 1.6 * (v - 6), -20.0 - (v - 6), 0.0)) for v in (7, 9, 11, 13)]
        right, left = self.hilum["right"], self.hilum["left"]
        trunk = [(x + 4 * s, y - 16 * s, z + 26 * s), (cx + 20, cy - 26, cz - 34), (cx + 26, cy - 8, cz - 20), left]
        arteries = [(cx + 20, cy - 16, cz - 28), (cx, cy - 12, cz - 30), (right[0], right[1] - 6, right[2])]
        cava = [(x - 26 * s, y + 2 * s, z + 20 * s), (cx - 22, cy - 16, cz - 10), (cx - 20, cy - 16, cz + 34)]
        lower = [(x - 24 * s, y + 12 * s, z - 24 * s), (-26.0, y + 24 * s, self.dome_z["right"] - 50.0)]
        neck = [(cx - 14, cy - 16, cz + 30), (cx - 22, cy - 6, self.apex_z), (cx - 26, cy - 2, self.apex_z + 70)]
        carotid = [(cx + 16, cy - 4, arch_z), (cx + 22, cy - 2, self.apex_z), (cx + 28, cy, self.apex_z + 70)]
        return {
            "aorta": (curve(aorta), 12.5),
            "pulmonary_trunk": (curve(trunk), 11.5),
            "right_pulmonary_artery": (curve(arteries), 9.5),
            "superior_vena_cava": (curve(cava), 8.5),
            "inferior_vena_cava": (curve(lower), 10.0),
            "right_neck_vessels": (curve(neck), 6.0),
            "left_neck_vessels": (curve(carotid), 5.0),
        }


def smooth_union_max(first: Floats, second: Floats) -> Floats:
    """The higher of two surfaces, with a fillet of 10 mm where they meet."""
    return -smooth_union(-first, -second, 10.0)
