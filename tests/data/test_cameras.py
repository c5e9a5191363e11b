"""Cameras, checked against arithmetic done by hand and by a second, scalar implementation."""

import math
from typing import Any

import numpy as np
import pytest

from bench.data.cameras import (
    H36M_CAMERAS,
    Camera,
    denormalise,
    normalise,
    project,
    world_to_camera,
)

ALL = [(subject, i) for subject in H36M_CAMERAS for i in range(4)]


def _hamilton(a: tuple[float, ...], b: tuple[float, ...]) -> tuple[float, ...]:
    """Multiply two quaternions (w, x, y, z)."""
    return (
        a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3],
        a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2],
        a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1],
        a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0],
    )


def _scalar_pixel(world: list[float], camera: Camera) -> tuple[float, float]:
    """Project one world point with quaternions and plain floats."""
    q = camera.rotation
    inverse = (q[0], -q[1], -q[2], -q[3])
    moved = (0.0, *(world[i] - camera.translation[i] for i in range(3)))
    _, px, py, pz = _hamilton(_hamilton(inverse, moved), q)
    x, y = max(-1.0, min(1.0, px / pz)), max(-1.0, min(1.0, py / pz))
    r2 = x * x + y * y
    bend = 1 + camera.radial[0] * r2 + camera.radial[1] * r2**2 + camera.radial[2] * r2**3
    bend += camera.tangential[0] * x + camera.tangential[1] * y
    u = camera.focal[0] * (x * bend + camera.tangential[0] * r2) + camera.centre[0]
    v = camera.focal[1] * (y * bend + camera.tangential[1] * r2) + camera.centre[1]
    return u, v


def test_the_published_cameras_are_there() -> None:
    assert set(H36M_CAMERAS) >= {"S1", "S9", "S11"}
    for cameras in H36M_CAMERAS.values():
        ids = [camera.id for camera in cameras]
        assert ids == ["54138969", "55011271", "58860488", "60457274"]
        assert [(c.width, c.height) for c in cameras] == [
            (1000, 1002),
            (1000, 1000),
            (1000, 1000),
            (1000, 1002),
        ]
        # protocols.md: metres, so all are within a room of some 12 m.
        assert all(3.5 < math.hypot(*camera.translation) < 6.5 for camera in cameras)


@pytest.mark.parametrize(("subject", "i"), ALL)
def test_rotations_are_orthonormal_and_right_handed(subject: str, i: int) -> None:
    matrix = H36M_CAMERAS[subject][i].matrix()
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1.0)


@pytest.mark.parametrize(("subject", "i"), ALL)
def test_cameras_look_at_the_room_with_the_sky_above(subject: str, i: int) -> None:
    camera = H36M_CAMERAS[subject][i]
    points = world_to_camera(np.array([[0.0, 0.0, 0.1], [0.0, 0.0, 1.7]]), camera)
    assert (points[:, 2] > 3.5).all()
    feet, head = project(points, camera)
    assert 0 < head[1] < feet[1] < camera.height
    assert 200 < feet[0] < 800


@pytest.mark.parametrize(("subject", "i"), ALL)
def test_the_optical_axis_lands_on_the_principal_point(subject: str, i: int) -> None:
    camera = H36M_CAMERAS[subject][i]
    on_axis = np.array(camera.translation) + 3.0 * camera.matrix()[:, 2]
    np.testing.assert_allclose(world_to_camera(on_axis, camera), [0, 0, 3], atol=1e-12)
    np.testing.assert_allclose(
        project(np.array([0.0, 0.0, 3.0]), camera), camera.centre, atol=1e-12
    )


def test_a_pixel_computed_by_hand() -> None:
    # x/z = 0.15, y/z = -0.1, r2 = 0.0325; radial factor 0.993530892, tangential -0.000003908,
    # hence 0.148997338 and -0.099398994 before focal length and principal point.
    pixel = project(np.array([0.3, -0.2, 2.0]), H36M_CAMERAS["S9"][0])
    np.testing.assert_allclose(pixel, [683.1508, 401.7608], atol=2e-4)


@pytest.mark.parametrize(("subject", "i"), ALL)
def test_projection_agrees_with_a_scalar_implementation(subject: str, i: int) -> None:
    camera = H36M_CAMERAS[subject][i]
    world = np.random.default_rng(i).uniform([-2, -2, 0], [2, 2, 2], (50, 3))
    pixels = project(world_to_camera(world, camera), camera)
    expected = [_scalar_pixel(point, camera) for point in world.tolist()]
    np.testing.assert_allclose(pixels, expected, atol=1e-3)  # the table's quaternions are float32


def test_far_off_axis_points_are_clamped_before_distortion() -> None:
    camera = H36M_CAMERAS["S1"][2]
    inside, outside = project(np.array([[2.0, 1.0, 2.0], [14.0, 1.0, 2.0]]), camera)
    np.testing.assert_array_equal(inside, outside)


def test_normalised_corners() -> None:
    corners = np.array([[0.0, 0.0], [1000.0, 1002.0], [500.0, 501.0]])
    expected = [[-1.0, -1.002], [1.0, 1.002], [0.0, 0.0]]
    np.testing.assert_allclose(normalise(corners, 1000, 1002), expected, atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("width", "height"), [(1000, 1002), (1920, 1080), (640, 640)])
def test_normalising_is_undone(width: int, height: int, dtype: Any) -> None:
    pixels = np.random.default_rng(0).uniform(-100, 2000, (4, 17, 2)).astype(dtype)
    back = denormalise(normalise(pixels, width, height), width, height)
    np.testing.assert_allclose(back, pixels, atol=1e-9)


def test_float32_goes_in_and_float64_comes_out() -> None:
    camera = H36M_CAMERAS["S11"][3]
    world = np.random.default_rng(0).random((3, 17, 3))
    single = project(world_to_camera(world.astype(np.float32), camera), camera)
    assert single.dtype == np.float64
    assert single.shape == (3, 17, 2)
    np.testing.assert_allclose(single, project(world_to_camera(world, camera), camera), atol=1e-3)
