"""Keypoint files, and lifting them from the command line."""

from __future__ import annotations

import json
import math
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import animation
from PIL import Image

import h2ot_core
from bench.cli import main
from bench.data.cameras import normalise
from bench.data.readers.keypoints import (
    KeypointError,
    Keypoints,
    coco_to_h36m,
    load_keypoints,
)
from bench.data.skeleton import COCO_NAMES, JOINT_NAMES
from bench.evaluation.lift_file import network_input
from h2ot_core.checkpoints import published_names
from reports.animation import animate

SIZE = {"width": 640, "height": 480}

# A person who stands facing the camera, 100 pixels from hip to shoulder; by hand.
FRONT = {
    "nose": (300, 100),
    "left_eye": (306, 94),
    "right_eye": (294, 92),
    "left_ear": (314, 96),
    "right_ear": (290, 96),
    "left_shoulder": (330, 140),
    "right_shoulder": (270, 144),
    "left_elbow": (340, 190),
    "right_elbow": (260, 194),
    "left_wrist": (342, 230),
    "right_wrist": (258, 234),
    "left_hip": (316, 240),
    "right_hip": (284, 244),
    "left_knee": (318, 320),
    "right_knee": (282, 324),
    "left_ankle": (320, 400),
    "right_ankle": (280, 404),
}
# The same in Human3.6M's joints.
MAPPED = {
    "Hip": (300, 242),
    "RHip": (284, 244),
    "RKnee": (282, 324),
    "RFoot": (280, 404),
    "LHip": (316, 240),
    "LKnee": (318, 320),
    "LFoot": (320, 400),
    "Spine": (300, 192),
    "Thorax": (300, 142),
    "Neck/Nose": (300, 110.5),  # 100 + 42 / 4
    "Head": (301, 86),  # (306 + 294 + 314 + 290) / 4, 94 + 92 - 100
    "LShoulder": (330, 140),
    "LElbow": (340, 190),
    "LWrist": (342, 230),
    "RShoulder": (270, 144),
    "RElbow": (260, 194),
    "RWrist": (258, 234),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors are slower on several threads, most of all beside other work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def coco(frames: int, seed: int = 0) -> Any:
    """(T, 17, 3): the standing person, wandering, with confidences."""
    generator = np.random.default_rng(seed)
    standing = np.array([FRONT[name] for name in COCO_NAMES], dtype=float)
    walk = generator.normal(size=(frames, 1, 2)).cumsum(axis=0)
    joints = np.empty((frames, 17, 3))
    joints[..., :2] = standing + walk + generator.normal(size=(frames, 17, 2))
    joints[..., 2] = generator.uniform(0.3, 1, size=(frames, 17))
    return joints


def result(frame: Any, joints: Any, score: float = 0.9, **more: Any) -> dict[str, Any]:
    values = [float(value) for value in np.asarray(joints).ravel()]
    return {"image_id": frame, "category_id": 1, "keypoints": values, "score": score, **more}


def results(joints: Any, first: int = 0) -> list[dict[str, Any]]:
    return [result(first + i, body) for i, body in enumerate(joints)]


def dataset(joints: Any, **more: Any) -> dict[str, Any]:
    """A COCO data set with images out of order and ids that say nothing."""
    count = len(joints)
    images = [
        {"id": 1000 - 7 * i, "file_name": f"video/frame_{i + 1}.jpg", **SIZE} for i in range(count)
    ]
    annotations = [
        {"id": i, "image_id": 1000 - 7 * i, "keypoints": np.ravel(body).tolist(), "category_id": 1}
        for i, body in enumerate(joints)
    ]
    return {"images": images[::-1], "annotations": annotations, **more}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write JSON, bytes, or arrays as npz."""

    def to(content: Any = None, name: str = "keypoints", **arrays: Any) -> Path:
        if arrays:
            path = tmp_path / f"{name}.npz"
            np.savez(path, **arrays)
        elif isinstance(content, bytes):
            path = tmp_path / name
            path.write_bytes(content)
        else:
            path = tmp_path / f"{name}.json"
            path.write_text(json.dumps(content))
        return path

    return to


# --- from COCO's joints to Human3.6M's -----------------------------------------------------------


def test_coco_joints_become_those_of_human36m() -> None:
    joints = np.array([[(*FRONT[name], 1) for name in COCO_NAMES]], dtype=float)
    out = coco_to_h36m(joints)
    assert list(MAPPED) == list(JOINT_NAMES)
    for joint, (name, place) in enumerate(MAPPED.items()):
        assert tuple(out[0, joint, :2]) == pytest.approx(place), name
    assert (out[..., 2] == 1).all()


def test_confidence_is_that_of_the_joints_a_joint_is_made_of() -> None:
    joints = np.zeros((1, 17, 3))
    joints[0, :, 2] = np.arange(17) / 16
    confidence = dict(zip(JOINT_NAMES, coco_to_h36m(joints)[0, :, 2] * 16, strict=True))
    assert confidence["Hip"] == pytest.approx((11 + 12) / 2)
    assert confidence["Thorax"] == pytest.approx((5 + 6) / 2)
    assert confidence["Spine"] == pytest.approx((11 + 12 + 5 + 6) / 4)
    assert confidence["Neck/Nose"] == 0
    assert confidence["Head"] == pytest.approx((1 + 2 + 3 + 4) / 4)
    assert (confidence["LWrist"], confidence["RFoot"]) == (9, 16)


# --- npz -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["keypoints", "positions_2d", "pixels", "arr_0"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint16"])
def test_npz_in_human36m_order(write: Callable[..., Path], name: str, dtype: str) -> None:
    joints = coco(5)[..., :2].astype(dtype)
    path = write(**{name: joints}, **SIZE)
    found = load_keypoints(path)
    assert found.pixels.dtype == found.confidence.dtype == np.float32
    np.testing.assert_array_equal(found.pixels, joints.astype("float32"))
    assert (found.confidence == 1).all()
    assert (found.width, found.height, found.filled) == (640, 480, 0)
    assert found.frames.tolist() == [0, 1, 2, 3, 4]
    assert found.source == "keypoints.npz: 17 Human3.6M joints, 5 frames of 640 x 480 pixels"


def test_npz_with_confidence_and_coco_joints(write: Callable[..., Path]) -> None:
    joints = coco(5)
    joints[0, 0, 2], joints[1, 0, 2] = 1.5, -0.5
    plain = load_keypoints(write(keypoints=joints, **SIZE, skeleton="h36m"))
    np.testing.assert_array_equal(plain.confidence, joints[..., 2].clip(0, 1).astype("float32"))
    mapped = load_keypoints(write(keypoints=joints, **SIZE, skeleton="coco"))
    np.testing.assert_allclose(mapped.pixels, coco_to_h36m(joints)[..., :2], rtol=1e-6)
    assert "17 COCO joints" in mapped.source


def test_what_the_caller_says_of_the_size_goes_first(write: Callable[..., Path]) -> None:
    path = write(keypoints=coco(2), **SIZE)
    assert load_keypoints(path, width=1920).width == 1920
    assert load_keypoints(path, height=1080).height == 1080
    bare = write(keypoints=coco(2))
    found = load_keypoints(bare, **SIZE)
    assert (found.width, found.height) == (640, 480)


NPZ_ERRORS: list[tuple[dict[str, Any], str]] = [
    ({"other": coco(2)}, r"has 'width', 'height', 'other', expected the array 'keypoints'"),
    ({"keypoints": coco(2)[:, :16]}, "has 16 joints, but the 17 of Human3.6M"),
    ({"keypoints": np.zeros((3, 25, 2))}, "has 25 joints, but the 17"),
    ({"keypoints": np.zeros((3, 133, 3))}, "133 joints.*first 17 of COCO's whole-body joints"),
    ({"keypoints": coco(2)[..., :1]}, r"shape \(2, 17, 1\), expected \(frames, 17, 2\)"),
    ({"keypoints": coco(2)[None]}, r"shape \(1, 2, 17, 3\), expected"),
    ({"keypoints": np.zeros((0, 17, 2))}, "is empty, it has no frames"),
    ({"keypoints": np.array([coco(2), None], dtype=object)}, "object array.*never loaded"),
    ({"keypoints": np.full((2, 17, 2), "a")}, "holds <U1, expected numbers"),
    ({"keypoints": np.ones((2, 17, 2), dtype=complex)}, "holds complex128, expected numbers"),
    ({"keypoints": coco(2), "skeleton": "openpose"}, "skeleton is 'openpose'; the 17 joints of"),
    ({"keypoints": coco(2), "skeleton": ["h36m", "coco"]}, r"skeleton is \['h36m', 'coco'\]"),
    ({"keypoints": coco(2), "width": 0}, "width is 0, expected a whole number"),
    ({"keypoints": coco(2), "width": 10**15}, "width is 1000000000000000, expected a whole number"),
    ({"keypoints": coco(2), "width": 640.5}, "width is 640.5, expected a whole number"),
    ({"keypoints": coco(2), "width": math.nan}, "width is nan, expected a whole number"),
    ({"keypoints": coco(2), "width": [640, 480]}, r"width is 'an array \(2,\)', expected"),
    ({"keypoints": coco(2) / 500}, "normalised coordinates; expected pixels"),
    ({"keypoints": np.zeros((2, 17, 3))}, "no detections"),
]


@pytest.mark.parametrize(("arrays", "message"), NPZ_ERRORS)
def test_npz_that_cannot_be_used(
    write: Callable[..., Path], arrays: dict[str, Any], message: str
) -> None:
    path = write(**{"width": 640, "height": 480, **arrays})
    with pytest.raises(KeypointError, match=message) as caught:
        load_keypoints(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
def test_values_that_are_no_pixels_are_named(write: Callable[..., Path], value: float) -> None:
    joints = coco(9)
    joints[6, 9, 1] = value
    joints[7, 3] = value
    message = r"2 joints.*first at frame 6, joint 9 \({}\)"
    with pytest.raises(KeypointError, match=message.format("Neck/Nose")):
        load_keypoints(write(keypoints=joints, **SIZE))
    with pytest.raises(KeypointError, match=message.format("left_wrist")):
        load_keypoints(write(keypoints=joints, skeleton="coco", **SIZE))


@pytest.mark.parametrize("missing", ["width", "height"])
def test_an_unknown_size_names_the_option(write: Callable[..., Path], missing: str) -> None:
    path = write(results(coco(3)))
    given = {name: value for name, value in SIZE.items() if name != missing}
    with pytest.raises(KeypointError, match=f"the {missing} of the image.*--{missing}"):
        load_keypoints(path, **given)


def test_torn_npz(write: Callable[..., Path]) -> None:
    whole = write(keypoints=coco(40), **SIZE).read_bytes()
    for length in (2, 30, 200, len(whole) // 2, len(whole) - 30):
        with pytest.raises(KeypointError, match="torn"):
            load_keypoints(write(whole[:length], "torn.npz"))
    damaged = bytearray(whole)
    damaged[1000] ^= 0xFF
    with pytest.raises(KeypointError, match="'keypoints' is torn or damaged"):
        load_keypoints(write(bytes(damaged), "damaged.npz"))


def test_pickles_are_not_run(write: Callable[..., Path], tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    for content in (
        write(keypoints=np.array([Evil()], dtype=object), **SIZE).read_bytes(),
        pickle.dumps(Evil()),
    ):
        with pytest.raises(KeypointError):
            load_keypoints(write(content, "evil"))
    assert not (tmp_path / "ran").exists()


# --- JSON ----------------------------------------------------------------------------------------


def test_results(write: Callable[..., Path]) -> None:
    joints = coco(6)
    found = load_keypoints(write(results(joints, first=3)[::-1]), **SIZE)
    expected = coco_to_h36m(joints)
    np.testing.assert_allclose(found.pixels, expected[..., :2], rtol=1e-6)
    np.testing.assert_allclose(found.confidence, expected[..., 2], rtol=1e-6)
    assert found.frames.tolist() == [3, 4, 5, 6, 7, 8]
    assert found.source == "keypoints.json: COCO results, 6 frames of 640 x 480 pixels"


def test_results_with_file_names(write: Callable[..., Path]) -> None:
    joints = coco(12)
    entries = [result(f"day1/cam2_{i}.jpg", body) for i, body in enumerate(joints)]
    named = load_keypoints(write(sorted(entries, key=lambda e: e["image_id"])), **SIZE)
    np.testing.assert_array_equal(
        named.pixels, load_keypoints(write(results(joints)), **SIZE).pixels
    )
    assert named.frames.tolist() == list(range(12))


def test_dataset(write: Callable[..., Path]) -> None:
    joints = coco(12)
    joints[..., 2] = 2  # labelled and visible
    path = write(dataset(joints, info={}, categories=[]))
    found = load_keypoints(path)
    np.testing.assert_allclose(found.pixels, coco_to_h36m(joints)[..., :2], rtol=1e-6)
    assert (found.confidence == 1).all()
    assert (found.width, found.height) == (640, 480)
    assert found.frames.tolist() == list(range(12))
    assert load_keypoints(path, width=100).width == 100


def test_dataset_without_file_names_or_sizes(write: Callable[..., Path]) -> None:
    joints = coco(12)
    data = dataset(joints)
    for image in data["images"]:
        for key in ("file_name", "width", "height"):
            del image[key]
    found = load_keypoints(write(data), **SIZE)
    # In the order of their ids, which count backwards.
    np.testing.assert_allclose(found.pixels, coco_to_h36m(joints[::-1])[..., :2], rtol=1e-6)
    with pytest.raises(KeypointError, match="--width"):
        load_keypoints(write(data))


def test_boxes_without_joints_are_passed_over(write: Callable[..., Path]) -> None:
    data = dataset(coco(4))
    data["annotations"].append({"id": 9, "image_id": 1000, "category_id": 3, "bbox": [1, 2, 3, 4]})
    data["annotations"].append({"id": 10, "image_id": 993, "keypoints": [0] * 51})
    found = load_keypoints(write(data))
    assert (len(found.pixels), found.filled) == (4, 0)
    assert "several" not in found.source


def test_the_surest_person_is_taken(write: Callable[..., Path]) -> None:
    one, other = coco(4, seed=1), coco(4, seed=2)
    entries = [
        *(result(i, body, score=0.8, track_id=7) for i, body in enumerate(one)),
        *(result(i, other[i], score=SURE[i], track_id=8) for i in range(4)),
    ]
    path = write(entries)
    expected = np.where((SURE > 0.8)[:, None, None], other, one)
    found = load_keypoints(path, **SIZE)
    np.testing.assert_allclose(found.pixels, coco_to_h36m(expected)[..., :2], rtol=1e-6)
    assert "4 frames with several people, the surest taken" in found.source
    for person, body in ((7, one), (8, other)):
        chosen = load_keypoints(path, **SIZE, person=person)
        np.testing.assert_allclose(chosen.pixels, coco_to_h36m(body)[..., :2], rtol=1e-6)
        assert "several" not in chosen.source
    with pytest.raises(KeypointError, match="nobody has the id 9; there are 7, 8"):
        load_keypoints(path, **SIZE, person=9)


SURE = np.array([0.1, 0.9, 0.9, 0.5])


def test_without_scores_confidence_decides(write: Callable[..., Path]) -> None:
    one, other = coco(2, seed=1), coco(2, seed=2)
    one[..., 2], other[..., 2] = 0.5, np.array([[0.4], [0.6]])
    data = dataset(one)
    data["annotations"] += [
        {**entry, "id": 50 + i} for i, entry in enumerate(dataset(other)["annotations"])
    ]
    found = load_keypoints(write(data))
    expected = coco_to_h36m(np.stack([one[0], other[1]]))
    np.testing.assert_allclose(found.pixels, expected[..., :2], rtol=1e-6)
    # Where there is no track, the id of the annotation picks.
    assert load_keypoints(write(data), person=50).filled == 1


def test_frames_without_a_detection_are_interpolated(write: Callable[..., Path]) -> None:
    joints = coco(10)
    gaps = [0, 3, 4, 5, 9]
    kept = [i for i in range(10) if i not in gaps]
    data = dataset(joints)
    data["annotations"] = [data["annotations"][i] for i in kept]
    found = load_keypoints(write(data))
    whole = coco_to_h36m(joints)[..., :2]
    for t in kept:
        np.testing.assert_allclose(found.pixels[t], whole[t], rtol=1e-6)
    for t, weight in ((3, 0.25), (4, 0.5), (5, 0.75)):
        middle = (1 - weight) * whole[2] + weight * whole[6]
        np.testing.assert_allclose(found.pixels[t], middle, rtol=1e-6)
    np.testing.assert_array_equal(found.pixels[0], found.pixels[1])
    np.testing.assert_array_equal(found.pixels[9], found.pixels[8])
    assert (found.confidence[gaps] == 0).all()
    assert (found.confidence[kept] > 0).all()
    assert found.filled == 5
    assert "5 frames without a detection, interpolated" in found.source


def test_gaps_in_results_and_npz(write: Callable[..., Path]) -> None:
    joints = coco(8)
    entries = results(joints)
    # A detector may leave a frame out, or write zeros for it, at the end of the video too.
    del entries[3]
    for entry in (entries[0], entries[-1]):
        entry["keypoints"] = [0.0] * 51
    found = load_keypoints(write(entries), **SIZE)
    assert (len(found.pixels), found.filled) == (8, 3)
    joints[[0, 3, 7]] = 0
    same = load_keypoints(write(keypoints=joints, skeleton="coco", **SIZE))
    np.testing.assert_allclose(same.pixels, found.pixels, rtol=1e-6)
    np.testing.assert_allclose(same.confidence, found.confidence, rtol=1e-6)
    assert same.filled == 3


def test_single_joints_are_interpolated(write: Callable[..., Path]) -> None:
    joints = coco(5)
    whole = joints.copy()
    joints[2, 9] = 0  # left wrist
    found = load_keypoints(write(results(joints)), **SIZE)
    np.testing.assert_allclose(
        found.pixels[2, 13], (whole[1, 9, :2] + whole[3, 9, :2]) / 2, rtol=1e-6
    )
    assert found.confidence[2, 13] == 0
    assert found.filled == 0
    assert "1 single joints not detected, interpolated" in found.source
    joints[:, [9, 16]] = 0
    with pytest.raises(KeypointError, match="left_wrist, right_ankle not detected in any frame"):
        load_keypoints(write(results(joints)), **SIZE)


BODY = [1.0] * 51
JSON_ERRORS: list[tuple[Any, str]] = [
    (b"", "the file is empty"),
    (b"hello", "neither npz nor JSON"),
    (b"\xff\xd8\xff\xe0", "neither npz nor JSON"),
    (b'[{"image_id": 1, "keyp', "JSON is torn or wrong"),
    (b"[" * 100_000, "JSON is torn or wrong"),
    (b"\x93NUMPY\x01\x00", r"a single numpy array; store it as npz with np\.savez"),
    ([], "no detections, the list is empty"),
    (3, "the JSON holds int; expected a list of COCO results"),
    ({"meta_info": 1, "instance_info": []}, "holds keys 'meta_info', 'instance_info'; expected"),
    ({"version": 1.3, "people": [{"pose_keypoints_2d": [0] * 75}]}, "OpenPose.*25 joints, but"),
    ([1], "result 0 holds int; expected COCO results"),
    ([{"image_id": 1, "bbox": []}], "result 0 holds keys 'image_id', 'bbox'; expected"),
    ([{"image_id": 1, "keypoints": [1] * 75}], "result 0 are 75 numbers, 25 joints, but the 17"),
    ([{"image_id": 1, "keypoints": [1] * 399}], "133 joints.*first 17 of COCO's whole-body"),
    ([{"image_id": 1, "keypoints": [1] * 34}], "34 numbers, expected 51: x, y, v"),
    ([{"image_id": 1, "keypoints": 5}], "keypoints of result 0 are no list"),
    ([{"image_id": 1, "keypoints": ["1"] * 51}], "keypoints of result 0 are not all numbers"),
    ([{"image_id": 1, "keypoints": [[1, 2, 3]] * 51}], "keypoints of result 0 are not all numb"),
    ([{"image_id": 1, "keypoints": [10**400] * 51}], "hold a number out of range"),
    ([{"image_id": 1, "keypoints": [math.nan] * 51}], r"first at frame 1, joint 0 \(nose\)"),
    ([{"image_id": 1, "keypoints": [0] * 51}], "no detections"),
    ([{"image_id": None, "keypoints": BODY}], "image_id of result 0 is None, expected the number"),
    ([{"image_id": "a.jpg", "keypoints": BODY}], "image_id of result 0 is 'a.jpg', expected"),
    ([{"image_id": 10**30, "keypoints": BODY}], "image_id of result 0 is 1000.*, expected"),
    (
        [{"image_id": i, "keypoints": BODY} for i in (139, 285, 581929)],
        "image ids run from 139 to 581929, but there are only 3.*not to be one video",
    ),
    ({"images": [], "annotations": []}, "the data set is empty, it has no images"),
    ({"images": 1, "annotations": []}, "'images' is no list"),
    ({"images": [{}], "annotations": []}, "image 0 has no 'id'"),
    ({"images": [{"id": 1, **SIZE}], "annotations": []}, "no detections"),
    ({"images": [{"id": 1}], "annotations": [{"id": 2}]}, "annotation 0 has no 'image_id'"),
    (
        {"images": [{"id": 1}], "annotations": [{"image_id": 2, "keypoints": BODY}]},
        "annotation 0 is of image 2, which 'images' lacks",
    ),
    ({"images": [{"id": 1}, {"id": 1}], "annotations": []}, "two images have the same id"),
    (
        {"images": [{"id": 1, **SIZE}, {"id": 2, "width": 320}], "annotations": []},
        "images have different sizes, width 640 and 320",
    ),
]


@pytest.mark.parametrize(("content", "message"), JSON_ERRORS)
def test_json_that_cannot_be_used(write: Callable[..., Path], content: Any, message: str) -> None:
    path = write(content)
    with pytest.raises(KeypointError, match=message) as caught:
        load_keypoints(path, **SIZE)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_missing_files_and_persons_of_npz(write: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(KeypointError, match="no such file"):
        load_keypoints(tmp_path / "none.npz")
    with pytest.raises(KeypointError, match="no such file"):
        load_keypoints(tmp_path)
    with pytest.raises(KeypointError, match="an npz holds one person; leave person = 1 out"):
        load_keypoints(write(keypoints=coco(2), **SIZE), person=1)


# --- lifting -------------------------------------------------------------------------------------

MODEL = {"frames": 27, "r": (13, 9), "b": (1, 2), "width": 16, "depth": 3, "heads": 2}
FLAGS = [
    *("--frames", "27", "--r", "13", "9", "--b", "1", "2"),
    *("--option", "width=16", "--option", "depth=3", "--option", "heads=2"),
]


@pytest.fixture(scope="module")
def model() -> h2ot_core.Hourglass:
    torch.manual_seed(3)
    built = h2ot_core.build("mixste", **MODEL).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return built


@pytest.fixture(scope="module")
def weights(model: h2ot_core.Hourglass, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's weights as a published repository saves them."""
    names = published_names(model).items()
    content = {"model_pos": {f"module.{k}": model.state_dict()[ours] for k, ours in names}}
    path = tmp_path_factory.mktemp("weights") / "best.pth"
    torch.save(content, path)
    return path


@pytest.mark.parametrize("count", [1, 10, 27, 60])
def test_lifting_a_file(
    write: Callable[..., Path],
    tmp_path: Path,
    model: h2ot_core.Hourglass,
    weights: Path,
    capsys: pytest.CaptureFixture[str],
    count: int,
) -> None:
    path, out = write(results(coco(count), first=5)), tmp_path / "poses.npz"
    size = ["--width", "640", "--height", "480", "--fps", "25"]
    line = ["lift", str(path), str(out), "--weights", str(weights), *size, *FLAGS]
    assert main(line) == 0
    shown = capsys.readouterr()
    assert f"COCO results, {count} frames of 640 x 480 pixels" in shown.out
    assert f"({count}, 17, 3), unit metres" in shown.out
    assert "100%" in shown.err
    keypoints = load_keypoints(path, **SIZE)
    x = torch.from_numpy(normalise(keypoints.pixels, **SIZE).astype("float32"))
    expected = h2ot_core.lift(model, x).numpy()
    with np.load(out, allow_pickle=False) as found:
        np.testing.assert_array_equal(found["poses_3d"], expected)
        assert found["poses_3d"].dtype == np.float32
        assert found["frames"].tolist() == list(range(5, 5 + count))
        assert found["joint_names"].tolist() == list(JOINT_NAMES)
        assert (found["fps"].item(), found["unit"].item()) == (25, "metres")
        assert found["weights"].item() == "best.pth"
        assert found["source"].item() == keypoints.source
        again = h2ot_core.build(**json.loads(found["config"].item()))
    assert again.config == model.config
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def run(path: Path, out: Path, *more: str) -> Any:
    line = ["lift", str(path), str(out), "--width", "640", "--height", "480", *more]
    assert main([*line, *FLAGS]) == 0
    with np.load(out) as found:
        return dict(found)


def test_options_of_lifting(
    write: Callable[..., Path],
    tmp_path: Path,
    model: h2ot_core.Hourglass,
    weights: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, out = write(results(coco(70))), tmp_path / "poses.npz"
    given = ("--weights", str(weights))
    whole = run(path, out, *given)["poses_3d"]
    plain, batches = h2ot_core.Hourglass.run, []

    def seen(self: Any, x: torch.Tensor, **options: Any) -> h2ot_core.Output:
        batches.append(len(x))
        return plain(self, x, **options)

    monkeypatch.setattr(h2ot_core.Hourglass, "run", seen)
    for batch in (1, 2):
        batches.clear()
        poses = run(path, out, *given, "--batch", str(batch))["poses_3d"]
        np.testing.assert_allclose(poses, whole, rtol=0, atol=1e-5)
        assert max(batches) == batch
    x = network_input(load_keypoints(path, **SIZE), 2)
    np.testing.assert_array_equal(
        run(path, out, *given, "--no-flip")["poses_3d"],
        h2ot_core.lift(model, x, flip=False).numpy(),
    )
    centred = run(path, out, *given, "--pipeline", "seq2frame")
    assert json.loads(centred["config"].item())["pipeline"] == "seq2frame"
    assert centred["poses_3d"].shape == (70, 17, 3)


def test_random_weights_are_the_same_every_time(write: Callable[..., Path], tmp_path: Path) -> None:
    path = write(results(coco(9)))
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = run(path, tmp_path / "a.npz", "--untrained")
    second = run(path, tmp_path / "b.npz", "--untrained")
    np.testing.assert_array_equal(first["poses_3d"], second["poses_3d"])
    assert first["unit"].item() == "unstated"
    assert first["weights"].item() == "none"
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("host", ["motionbert", "motionagformer"])
def test_confidence_is_the_third_channel(
    write: Callable[..., Path], tmp_path: Path, host: str
) -> None:
    joints = coco(5)
    path, out = write(results(joints)), tmp_path / "poses.npz"
    line = ["lift", str(path), str(out), "--untrained", "--width", "640", "--height", "480"]
    sizes = ["--option", "width=16", "--option", "depth=2", "--option", "heads=2"]
    config = ["--host", host, "--scheme", "none", "--frames", "9"]
    assert main([*line, *config, *sizes]) == 0
    with np.load(out) as found:
        poses, arguments = found["poses_3d"], json.loads(found["config"].item())
        assert found["unit"].item() == "unstated"
    torch.manual_seed(0)
    model = h2ot_core.build(**arguments)
    expected = coco_to_h36m(joints)
    x = np.concatenate([normalise(expected[..., :2], 640, 480), expected[..., 2:]], axis=-1)
    direct = h2ot_core.lift(model, torch.from_numpy(x.astype("float32"))).numpy()
    np.testing.assert_allclose(poses, direct, rtol=0, atol=1e-5)
    other = h2ot_core.lift(model, network_input(load_keypoints(path, **SIZE), 3) * 0.5)
    assert not np.allclose(poses, other.numpy(), atol=1e-3)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "no --weights: a model without trained weights puts out noise.*--untrained"),
        (["--weights", "w.pth"], "no weight file at w.pth"),
        (["--weights", "w.pth", "--untrained"], "exclude each other"),
        (["--untrained", "--fps", "0"], "--fps must be above 0, got 0.0"),
        (["--untrained", "--fps", "nan"], "--fps must be above 0, got nan"),
        (["--untrained", "--animate", "a.avi"], "--animate writes .gif or .mp4, got a.avi"),
        (["--untrained", "--animate", "none/a.gif"], "cannot write none/a.gif: no folder none"),
        (["--untrained", "--person", "4"], "nobody has the id 4; there are none"),
        (["--untrained", "--host", "mixture"], "unknown host 'mixture'"),
        (["--untrained", "--option", "joints=5"], r"shape \(T, 5, 2\)"),
    ],
)
def test_what_cannot_be_lifted(
    write: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    message: str,
) -> None:
    path, out = write(results(coco(3))), tmp_path / "poses.npz"
    line = ["lift", str(path), str(out), "--width", "640", "--height", "480", *more]
    assert main([*line, *FLAGS]) == 2
    errors = [text for text in capsys.readouterr().err.splitlines() if text.startswith("error: ")]
    assert len(errors) == 1
    assert re.search(message, errors[0])
    assert not out.exists()


def test_outputs_that_cannot_be_written(
    write: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write(keypoints=coco(3), **SIZE)
    out = tmp_path / "poses.npz"
    for name, message in (
        (str(path), "is the input"),
        (str(tmp_path / "poses.json"), "the suffix .npz"),
        (str(tmp_path / "none" / "poses.npz"), "no folder"),
    ):
        assert main(["lift", str(path), name, "--untrained", *FLAGS]) == 2
        assert message in capsys.readouterr().err

    out.write_bytes(b"before")

    def full(*_: object, **arrays: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    assert main(["lift", str(path), str(out), "--untrained", *FLAGS]) == 2
    assert f"error: cannot write {out}: No space left on device" in capsys.readouterr().err
    assert out.read_bytes() == b"before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["keypoints.npz", "poses.npz"]


def test_weights_that_put_out_nothing(
    write: Callable[..., Path],
    tmp_path: Path,
    weights: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = torch.load(weights, weights_only=True)["model_pos"]
    for value in content.values():
        value.fill_(math.nan)
    torch.save(content, tmp_path / "nan.pth")
    line = ["lift", str(write(keypoints=coco(3), **SIZE)), str(tmp_path / "poses.npz")]
    assert main([*line, "--weights", str(tmp_path / "nan.pth"), *FLAGS]) == 2
    assert "puts out NaN or infinity" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there(
    write: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["lift", str(write(keypoints=coco(3), **SIZE)), str(tmp_path / "poses.npz")]
    assert main([*line, "--untrained", "--device", "cuda", *FLAGS]) == 2
    assert "no CUDA device" in capsys.readouterr().err


# --- drawing -------------------------------------------------------------------------------------


def standing(frames: int) -> tuple[Any, Keypoints]:
    """The standing person as 3D, metres, and as keypoints; the left hand goes up."""
    joints = coco_to_h36m(np.array([[(*FRONT[name], 1) for name in COCO_NAMES]], dtype=float))
    pixels = joints[..., :2].repeat(frames, axis=0)
    pixels[:, 13, 1] -= np.linspace(0, 150, frames)
    flat = (pixels - pixels[:, :1]) / 200
    poses = np.concatenate([flat, np.zeros((frames, 17, 1))], axis=-1).astype("float32")
    found = Keypoints(
        pixels=pixels.astype("float32"),
        confidence=np.ones((frames, 17), dtype="float32"),
        frames=np.arange(frames) + 5,
        filled=0,
        source="",
        **SIZE,
    )
    return poses, found


def test_an_animation_can_be_read_and_moves(tmp_path: Path) -> None:
    poses, keypoints = standing(8)
    path = tmp_path / "poses.gif"
    text = animate(path, poses, keypoints, fps=50, unit="metres")
    assert text == "one frame in 2 drawn, 4 of 8"
    with Image.open(path) as picture:
        assert (picture.format, picture.n_frames, picture.size) == ("GIF", 4, (768, 384))  # type: ignore[attr-defined]
        assert picture.info["duration"] == 40
        first = np.asarray(picture.convert("RGB")).astype(int)
        picture.seek(3)
        last = np.asarray(picture.convert("RGB")).astype(int)
    # Something moves on both halves, and most of the picture stands still.
    moved = np.abs(first - last).max(axis=-1) > 60
    assert moved[60:, :384].any()
    assert moved[60:, 384:].any()
    assert moved.mean() < 0.05
    # The left of the body is blue and, on a person who faces the camera, right in the picture.
    blue = blue_of(first)
    red = (first[..., 0] > 180) & (first[..., 2] < 60)
    for half in (slice(0, 384), slice(384, 768)):
        xs = [np.argwhere(colour[60:, half])[:, 1].mean() for colour in (blue, red)]
        assert xs[0] > xs[1]
        # Up is up: the left hand rises.
        tops = [np.argwhere(colour[60:, half])[:, 0].min() for colour in (blue, blue_of(last))]
        assert tops[1] < tops[0] - 10
    assert [p.name for p in tmp_path.iterdir()] == ["poses.gif"]


def blue_of(picture: Any) -> Any:
    return (picture[..., 2] > 150) & (picture[..., 0] < 60)


def test_bodies_stand_on_the_ground_wherever_they_are(tmp_path: Path) -> None:
    poses, keypoints = standing(3)
    moved = poses + np.arange(9, dtype="float32").reshape(3, 1, 3)
    for name, values in (("here.gif", poses), ("there.gif", moved)):
        animate(tmp_path / name, values, keypoints, fps=25, unit="unstated")
    with Image.open(tmp_path / "here.gif") as here, Image.open(tmp_path / "there.gif") as there:
        for frame in range(3):
            here.seek(frame)
            there.seek(frame)
            pictures = [np.asarray(p.convert("RGB")).astype(int) for p in (here, there)]
            # Except for what moving rounds.
            assert (np.abs(pictures[0] - pictures[1]).max(axis=-1) > 60).mean() < 0.001


@pytest.mark.parametrize(
    ("frames", "fps", "text", "rate"),
    [
        (1, 50.0, "one frame in 2 drawn, 1 of 1", 25),
        (300, 25.0, "every frame drawn, 300 of 300", 25),
        (301, 25.0, "one frame in 2 drawn, 151 of 301", 12.5),
        (3000, 50.0, "one frame in 10 drawn, 300 of 3000, 2 times as fast as filmed", 10),
        (20, 5.0, "every frame drawn, 20 of 20, 2 times as fast as filmed", 10),
    ],
)
def test_how_many_frames_are_drawn(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    frames: int,
    fps: float,
    text: str,
    rate: float,
) -> None:
    drawn = []

    class Writer(animation.PillowWriter):
        def grab_frame(self, **options: Any) -> None:
            if not drawn:
                super().grab_frame(**options)
            drawn.append(self.fps)

    monkeypatch.setattr(animation, "PillowWriter", Writer)
    poses, keypoints = standing(frames)
    assert animate(tmp_path / "a.gif", poses, keypoints, fps=fps, unit="unstated") == text
    assert len(drawn) <= 300
    assert f"{len(drawn)} of" in text
    assert set(drawn) == {rate}


def test_an_animation_beside_the_poses(
    write: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(animation.writers, "is_available", lambda name: False)
    path, out = write(keypoints=coco(3), **SIZE), tmp_path / "poses.npz"
    line = ["lift", str(path), str(out), "--untrained", *FLAGS]
    assert main([*line, "--animate", str(tmp_path / "poses.mp4")]) == 0
    shown = capsys.readouterr().out
    assert "ffmpeg is not installed, so" in shown
    assert "poses.gif: one frame in 2 drawn, 2 of 3" in shown
    assert not (tmp_path / "poses.mp4").exists()
    with Image.open(tmp_path / "poses.gif") as picture:
        assert picture.n_frames == 2  # type: ignore[attr-defined]


@pytest.mark.skipif(not animation.writers.is_available("ffmpeg"), reason="needs ffmpeg")
def test_an_mp4(tmp_path: Path) -> None:
    poses, keypoints = standing(5)
    animate(tmp_path / "a.mp4", poses, keypoints, fps=25, unit="metres")
    assert b"ftyp" in (tmp_path / "a.mp4").read_bytes()[:16]
