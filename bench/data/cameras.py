"""The four Human3.6M cameras and their projection.

Constants and order of operations: protocols.md, section 1 ("Cameras", "World→camera", "2D norm");
they are the published calibration of the data set, in the float32 precision it is used with.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
Pair = tuple[float, float]
Vector = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]


@dataclass(frozen=True)
class Camera:
    """One calibrated camera.

    Attributes:
        id: serial number, as in the data set.
        width: of the image, pixels.
        height: of the image, pixels.
        focal: focal lengths in x and y, pixels.
        centre: principal point, pixels.
        radial: coefficients of r^2, r^4, r^6.
        tangential: two coefficients.
        rotation: unit quaternion (w, x, y, z), camera to world.
        translation: position of the camera in the world, metres.
    """

    id: str
    width: int
    height: int
    focal: Pair
    centre: Pair
    radial: Vector
    tangential: Pair
    rotation: Quaternion
    translation: Vector

    def matrix(self) -> npt.NDArray[np.float64]:
        """Return the rotation from camera to world as a (3, 3) orthonormal matrix."""
        w, x, y, z = np.array(self.rotation) / np.linalg.norm(self.rotation)
        return np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
            ]
        )


def world_to_camera(positions: Array, camera: Camera) -> npt.NDArray[np.float64]:
    """Move points from the world into a camera's frame (x right, y down, z into the scene).

    Args:
        positions: (..., 3) metres, world.
        camera: where to look from.

    Returns:
        (..., 3) metres, float64: the inverse rotation applied to (position - camera position).
    """
    moved = np.asarray(positions, dtype=np.float64) - np.array(camera.translation)
    return np.asarray(moved @ camera.matrix(), dtype=np.float64)


def project(points_camera: Array, camera: Camera) -> npt.NDArray[np.float64]:
    """Project points of the camera frame with the Human3.6M distortion model.

    As in the code that the published 2D ground truth was made with: x/z and y/z are clamped to
    [-1, 1], then `x (1 + k1 r2 + k2 r4 + k3 r6 + p.x) + p r2`. (Pairing p with x and y in this
    order, without the factor 2 and the swap of other calibration tools, is that code's choice;
    it amounts to about a pixel near the image border.) Points behind the camera give meaningless
    pixels, so check the depth first.

    Args:
        points_camera: (..., 3) metres, camera frame, z > 0.
        camera: focal lengths, principal point and distortion.

    Returns:
        (..., 2) pixels, float64.
    """
    points = np.asarray(points_camera, dtype=np.float64)
    flat = np.clip(points[..., :2] / points[..., 2:], -1.0, 1.0)
    r2 = (flat**2).sum(axis=-1, keepdims=True)
    k1, k2, k3 = camera.radial
    radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))
    tangential = np.array(camera.tangential)
    bent = flat * (radial + (flat * tangential).sum(axis=-1, keepdims=True)) + tangential * r2
    return np.asarray(bent * camera.focal + camera.centre, dtype=np.float64)


def normalise(pixels: Array, width: int, height: int) -> npt.NDArray[np.float64]:
    """Map pixels to network input: x to 2x/w - 1, y to 2y/w - h/w (both divided by the width).

    Args:
        pixels: (..., 2).
        width: of the image, pixels.
        height: of the image, pixels.

    Returns:
        (..., 2), x in [-1, 1] inside the image, float64.
    """
    offset = np.array([1.0, height / width])
    scaled = np.asarray(pixels, dtype=np.float64) * (2.0 / width)
    return np.asarray(scaled - offset, dtype=np.float64)


def denormalise(coordinates: Array, width: int, height: int) -> npt.NDArray[np.float64]:
    """Map network input (..., 2) back to pixels (..., 2): the inverse of `normalise`."""
    offset = np.array([1.0, height / width])
    return np.asarray((coordinates + offset) * (width / 2.0), dtype=np.float64)


# Id, width, height, focal lengths, principal point, radial and tangential distortion.
_INTRINSICS: Final[tuple[tuple[str, int, int, Pair, Pair, Vector, Pair], ...]] = (
    (
        "54138969",
        1000,
        1002,
        (1145.0494, 1143.7811),
        (512.5415, 515.4515),
        (-0.20709892, 0.24777518, -0.0030751503),
        (-0.0009756989, -0.0014244716),
    ),
    (
        "55011271",
        1000,
        1000,
        (1149.6757, 1147.5917),
        (508.84863, 508.0649),
        (-0.19421363, 0.24040854, 0.0068199756),
        (-0.0016190266, -0.0027408944),
    ),
    (
        "58860488",
        1000,
        1000,
        (1149.1407, 1148.799),
        (519.81586, 501.40265),
        (-0.20833819, 0.255488, -0.0024604974),
        (0.001484387, -0.0007599993),
    ),
    (
        "60457274",
        1000,
        1002,
        (1145.5114, 1144.7739),
        (514.9682, 501.88202),
        (-0.19838409, 0.21832368, -0.008947807),
        (-0.0005872056, -0.001813362),
    ),
)
# Per subject and camera: rotation, and translation in millimetres. The cameras were calibrated
# anew for every subject.
_EXTRINSICS: Final[dict[str, tuple[tuple[Quaternion, Vector], ...]]] = {
    "S1": (
        ((0.14070565, -0.15007018, -0.7552408, 0.62232804), (1841.107, 4955.2847, 1563.4454)),
        ((0.6157188, -0.7648363, -0.14833826, 0.11794741), (1761.2786, -5078.007, 1606.265)),
        ((0.14651473, -0.14647852, 0.76530236, -0.60941756), (-1846.7777, 5215.0464, 1491.9724)),
        ((0.58340085, -0.7853162, 0.14548823, -0.14749594), (-1794.7897, -3722.699, 1574.8927)),
    ),
    "S5": (
        ((0.14673772, -0.16237096, -0.7551893, 0.6178939), (2097.3916, 4880.945, 1605.7324)),
        ((0.61597586, -0.7626792, -0.15728192, 0.1189815), (2031.7008, -5167.933, 1612.9231)),
        ((0.14291371, -0.12907842, 0.7678385, -0.6110143), (-1620.5948, 5171.6587, 1496.437)),
        ((0.592048, -0.7814218, 0.12747486, -0.15036418), (-1637.1737, -3867.3174, 1547.0332)),
    ),
    "S6": (
        ((0.13378978, -0.15692396, -0.75710905, 0.61988795), (1935.4518, 4950.2456, 1618.0839)),
        ((0.61471975, -0.7628813, -0.16174768, 0.11819245), (1969.804, -5128.739, 1632.7788)),
        ((0.15299481, -0.13529131, 0.76460963, -0.6112781), (-1769.5964, 5185.3613, 1476.9934)),
        ((0.59161013, -0.7804774, 0.1283227, -0.15615939), (-1721.6687, -3884.1313, 1540.4879)),
    ),
    "S7": (
        ((0.14352418, -0.16313368, -0.75483286, 0.6188825), (1974.513, 4926.3545, 1597.8326)),
        ((0.6141673, -0.76382625, -0.15966456, 0.117792994), (1937.0585, -5119.79, 1631.5665)),
        ((0.1455006, -0.12874816, 0.76605165, -0.61271393), (-1741.8112, 5208.2495, 1464.8246)),
        ((0.5912848, -0.78217643, 0.12445474, -0.15196487), (-1734.7106, -3832.4214, 1548.583)),
    ),
    "S8": (
        ((0.14110588, -0.15589868, -0.75619173, 0.61964405), (2150.6519, 4896.161, 1611.9047)),
        ((0.61696017, -0.7647668, -0.1484635, 0.11158158), (2219.9656, -5148.453, 1613.0441)),
        ((0.1471444, -0.1337712, 0.76701283, -0.61003697), (-1571.2216, 5137.0186, 1498.1761)),
        ((0.59278244, -0.78258705, 0.12147816, -0.14631996), (-1476.9133, -3896.7412, 1547.9722)),
    ),
    "S9": (
        ((0.15540588, -0.15548216, -0.75320953, 0.6199595), (2044.4585, 4935.117, 1481.2275)),
        ((0.6187845, -0.7634735, -0.14132239, 0.11933968), (1990.9597, -5123.8105, 1568.8048)),
        ((0.13357827, -0.13671005, 0.76894546, -0.61007386), (-1670.9922, 5211.986, 1528.388)),
        ((0.5879399, -0.7823407, 0.14276144, -0.1479487), (-1696.0435, -3827.0999, 1591.4127)),
    ),
    "S11": (
        ((0.15232472, -0.1544232, -0.75475633, 0.619107), (2098.4402, 4926.5547, 1500.2786)),
        ((0.61894494, -0.7600917, -0.15300633, 0.12552583), (2083.1824, -4912.173, 1561.0786)),
        ((0.14943229, -0.15650228, 0.7681234, -0.60263044), (-1609.8153, 5177.336, 1537.8967)),
        ((0.58942515, -0.7818877, 0.13991211, -0.14715362), (-1590.738, -3854.169, 1578.0176)),
    ),
}


H36M_CAMERAS: Final[dict[str, tuple[Camera, Camera, Camera, Camera]]] = {
    subject: tuple(  # type: ignore[misc]  # four lenses, hence four cameras
        Camera(*lens, rotation=rotation, translation=(x / 1000, y / 1000, z / 1000))
        for lens, (rotation, (x, y, z)) in zip(_INTRINSICS, views, strict=True)
    )
    for subject, views in _EXTRINSICS.items()
}
"""The four cameras of every subject with public 3D, in the order of the published tables."""
