"""The cross-section of a street and the plots of land along it."""

from dataclasses import dataclass
from random import Random

FAR = 140.0
"""Distance at which the street ends, metres."""

STYLES: dict[str, dict[str, float]] = {
    "city": {"building": 9, "wall": 3, "street": 1, "park": 1, "fence": 4},
    "suburb": {"house": 6, "park": 1.5, "wall": 4, "fence": 5, "street": 1},
    "park": {"park": 5, "fence": 4, "wall": 4, "building": 2, "street": 0.6},
    "works": {"wall": 5, "fence": 5, "building": 4, "park": 1, "street": 1},
}
"""Weight of each kind of plot in each kind of quarter.

A row of buildings; a house behind its garden; trees; a yard behind a wall or a fence; a side road.
"""


VERGES: dict[str, float] = {"city": 0.15, "suburb": 0.5, "park": 0.5, "works": 0.4}
"""Chance of a green strip between road and sidewalk in each kind of quarter."""


@dataclass(frozen=True)
class Band:
    """A strip of ground along the road, between two distances from its middle (metres, towards its side)."""

    label: str
    inner: float
    outer: float


@dataclass(frozen=True)
class Plot:
    """What stands beside the road between two distances (metres): `kind` is a key of `STYLES`."""

    kind: str
    start: float
    end: float


@dataclass(frozen=True)
class Side:
    """One side of the street.

    Attributes:
        sign: -1 on the left, 1 on the right.
        bands: From the road outwards.
        plots: In order, from the camera.
        parked: Middle of the row of parked cars, metres right of the camera, if there is one.
    """

    sign: int
    bands: tuple[Band, ...]
    plots: tuple[Plot, ...]
    parked: float | None

    @property
    def boundary(self) -> float:
        """Distance of the building line from the camera's lane, metres."""
        return self.bands[-1].outer

    @property
    def sidewalk(self) -> Band:
        """The band for people."""
        return next(band for band in self.bands if band.label == "sidewalk")

    @property
    def verge(self) -> Band | None:
        """The first green band, if there is one."""
        return next((band for band in self.bands if band.label == "terrain"), None)


@dataclass(frozen=True)
class Road:
    """The carriageway; all positions are metres right of the camera.

    Attributes:
        left: Its left edge.
        right: Its right edge.
        lanes: Middle of each lane, from left to right.
        lines: Borders between the lanes.
        oncoming: Number of lanes, from the left, that come towards the camera.
        crossing: Distance of a zebra crossing, metres; 0 where there is none.
        rails: Middle of a tram track, if there is one.
    """

    left: float
    right: float
    lanes: tuple[float, ...]
    lines: tuple[float, ...]
    oncoming: int
    crossing: float
    rails: float | None


def plan_street(rng: Random) -> tuple[Road, tuple[Side, Side]]:
    """Draw the cross-section of the street and the plots on both sides."""
    width = rng.uniform(3.1, 3.7)
    to_left, to_right = rng.choice((1, 1, 1, 2, 2, 3)), rng.choice((0, 0, 0, 1))
    lanes = tuple(width * i for i in range(-to_left, to_right + 1))
    left_style, right_style = rng.choices(tuple(STYLES), (4, 3, 3, 2), k=2)
    left = _plan_side(-1, width * (to_left + 0.5), left_style, rng)
    right = _plan_side(1, width * (to_right + 0.5), right_style, rng)
    road = Road(
        left=-left.bands[0].inner,
        right=right.bands[0].inner,
        lanes=lanes,
        lines=tuple(lane + width / 2 for lane in lanes[:-1]),
        oncoming=rng.randint(1, to_left),
        crossing=rng.uniform(8, 26) if rng.random() < 0.3 else 0.0,
        rails=rng.choice(lanes) if rng.random() < 0.5 else None,
    )
    return road, (left, right)


def _plan_side(sign: int, edge: float, style: str, rng: Random) -> Side:
    """Draw the bands beside a road whose lanes end at `edge`: parked cars, green, sidewalk, green."""
    bands: list[Band] = []
    parked = None
    inner = edge
    if rng.random() < 0.47:
        parked = sign * (edge + 1.05)
        inner = edge + 2.2
        if rng.random() < 0.4:
            bands.append(Band("parking", edge, inner))
    if rng.random() < VERGES[style]:
        bands.append(Band("terrain", inner, inner + rng.uniform(1.2, 3.0)))
        inner = bands[-1].outer
    bands.append(Band("sidewalk", inner, inner + rng.uniform(2.4, 5.5)))
    if style != "city" and rng.random() < 0.35:
        bands.append(Band("terrain", bands[-1].outer, bands[-1].outer + rng.uniform(0.8, 2.5)))
    return Side(sign, tuple(bands), _plan_plots(style, rng), parked)


def _plan_plots(style: str, rng: Random) -> tuple[Plot, ...]:
    plots: list[Plot] = []
    weights = STYLES[style]
    start = rng.uniform(1.2, 4.0)
    while start < FAR - 20:
        kind = rng.choices(tuple(weights), tuple(weights.values()))[0]
        if kind == "street" and (start < 7 or plots[-1].kind == "street"):
            continue
        end = start + (rng.uniform(7, 11) if kind == "street" else rng.uniform(8, 18) + 0.3 * start)
        plots.append(Plot(kind, start, end))
        start = end
    return tuple(plots)
