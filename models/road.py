"""A simulated road in numpy: what a camera behind the windscreen sees, and how to steer.

No recording of real driving is to be had offline, so this one is drawn: a flat world with a road of constant curvature,
in which position, heading, curvature, width, colours, markings, light, camera and noise are random. The target comes
from geometry alone: pure pursuit (R. C. Coulter, "Implementation of the pure pursuit path tracking algorithm", 1992)
steers towards the point of the centre line 15 m ahead, on a circle of radius r; as in Bojarski et al. 2016, who use
1/r because it stays finite on a straight road, the target is 1/r, here in units of 1/(100 m), positive to the right.
Nothing here says how a network would do on a real road.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

TITLE = "simulated road (own renderer)"
LICENSE = "made here"
HEIGHT, WIDTH = 66, 200
LOOKAHEAD_M = 15.0
COUNT = {"train": 6000, "test": 1000}
SEED = {"train": 1, "test": 2}


def load(split: str, folder: Path | None = None, count: int | None = None) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Images `[N, 3, 66, 200]` uint8 and targets `[N]` float32, drawn from the seed of the split; `folder` is not needed."""
    rng = np.random.default_rng(SEED[split])
    total = count or COUNT[split]
    images = np.empty((total, 3, HEIGHT, WIDTH), np.uint8)
    targets = np.empty(total, np.float32)
    for place in range(total):
        images[place], targets[place] = scene(rng)
    return images, targets


def scene(rng: np.random.Generator) -> tuple[NDArray[np.uint8], float]:
    """One random view of the road, `[3, 66, 200]`, and its target."""
    offset, heading, curvature = rng.normal(0, 0.8), rng.normal(0, 0.06), rng.normal(0, 0.008)
    ahead = centre(LOOKAHEAD_M, offset, heading, curvature)
    return render(rng, offset, heading, curvature), 100 * 2 * ahead / (LOOKAHEAD_M**2 + ahead**2)


def centre(z: Any, offset: float, heading: float, curvature: float) -> Any:
    """How far to the right the centre line is at `z` metres ahead, in metres."""
    return offset + heading * z + curvature * z**2 / 2


def render(rng: np.random.Generator, offset: float, heading: float, curvature: float) -> NDArray[np.uint8]:
    """The picture `[3, 66, 200]` of such a road, by a pinhole camera looking along z over the plane y = 0."""
    height_m, focal = rng.uniform(1.1, 1.5), rng.uniform(105, 125)
    horizon = HEIGHT * rng.uniform(0.28, 0.36)
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    below = np.maximum(row - horizon, 0.5)
    z = np.minimum(height_m * focal / below, 200.0)
    lateral = (column - WIDTH / 2) * z / focal - centre(z, offset, heading, curvature)

    def patchy(colour: list[float], strength: float) -> NDArray[np.float64]:
        """A surface with grain that belongs to the ground: a few waves of random direction."""
        grain = sum(np.sin(rng.uniform(0.2, 3) * lateral + rng.uniform(0.2, 3) * z + rng.uniform(0, 6)) for _ in range(3))
        return np.array(colour)[:, None, None] * (1 + strength * grain)

    half_width = rng.uniform(2.6, 4.0)
    picture = patchy([rng.uniform(50, 130), rng.uniform(80, 140), rng.uniform(40, 80)], 0.05)
    grey = rng.uniform(60, 130)
    picture = np.where(np.abs(lateral) < half_width, patchy([grey, grey, grey * 1.03], 0.03), picture)
    paint = np.array([230, 230, 220 if rng.random() < 0.7 else 120])[:, None, None] * rng.uniform(0.75, 1)
    edge = np.abs(np.abs(lateral) - (half_width - 0.25)) < 0.08
    dashed = (np.abs(lateral) < 0.08) & ((z + rng.uniform(0, 12)) % 12 < 6)
    edge_painted, centre_painted = rng.random(2) < (0.7, 0.8)
    picture = np.where((edge & edge_painted) | (dashed & centre_painted), paint, picture)
    near, length = rng.uniform(4, 40), rng.uniform(1, 10)
    shadow = (rng.random() < 0.4) & (z > near) & (z < near + length)
    picture = picture * np.where(shadow, rng.uniform(0.4, 0.8), 1)
    haze = np.exp(-z / rng.uniform(60, 300))
    sky = np.array([rng.uniform(120, 220), rng.uniform(150, 225), rng.uniform(180, 250)])[:, None, None]
    picture = np.where(row > horizon, picture * haze + sky * (1 - haze), sky * (1 - 0.2 * row / HEIGHT))
    picture = picture * rng.uniform(0.5, 1.15) + rng.normal(0, rng.uniform(1, 6), picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)
