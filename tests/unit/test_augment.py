"""Augmentation: stateless randomness and exact geometry."""

import numpy as np
import pytest

from ferlab.data.augment import apply, parameters

STILL = {"flip": False, "rotation": 0, "shift": 0, "zoom": 0}


@pytest.fixture
def faces():
    return np.random.default_rng(1).integers(0, 256, (40, 48, 48), dtype=np.uint8)


def uniforms(n, **columns):
    """Uniforms of one half (no movement), but for the columns named."""
    place = {"mirror": 0, "rotation": 1, "x": 2, "y": 3, "zoom": 4, "erase_x": 5, "erase_y": 6}
    drawn = np.full((n, 8), 0.5)
    for name, value in columns.items():
        drawn[:, place[name]] = value
    return drawn


def test_uniforms_depend_on_key_and_row_alone():
    few, many = parameters((7, "Training_1", 2), 3), parameters((7, "Training_1", 2), 300)
    assert (
        few.shape == (3, 8) and few.dtype == np.float64 and (many >= 0).all() and (many < 1).all()
    )
    np.testing.assert_array_equal(few, many[:3])
    for other in [(8, "Training_1", 2), (7, "Training_2", 2), (7, "Training_1", 3)]:
        assert not np.isin(parameters(other, 3), few).any()


def test_uniforms_are_these_very_numbers_on_every_machine():
    expected = [0.0010154121083625345, 0.9726631989222341, 0.5472747757933156]
    np.testing.assert_allclose(parameters((0, "a", 1), 1)[0, :3], expected, rtol=0, atol=1e-15)


def test_no_movement_leaves_every_bit_whatever_the_uniforms(faces):
    drawn = parameters((1,), len(faces))
    np.testing.assert_array_equal(apply(faces, drawn, **STILL), faces)
    still = apply(faces, uniforms(len(faces)), flip=True, rotation=30, shift=0.2, zoom=0.2)
    np.testing.assert_array_equal(still, faces)


def test_flip_mirrors_exactly_those_below_one_half(faces):
    drawn = parameters((2,), len(faces))
    mirrored = drawn[:, 0] < 0.5
    expected = np.where(mirrored[:, None, None], faces[:, :, ::-1], faces)
    assert 0 < mirrored.sum() < len(faces)
    np.testing.assert_array_equal(apply(faces, drawn, **{**STILL, "flip": True}), expected)


def test_flip_array_overrides_the_uniforms(faces):
    rows = np.arange(len(faces)) % 3 == 0
    moved = apply(faces, parameters((2,), len(faces)), **{**STILL, "flip": rows})
    np.testing.assert_array_equal(moved[rows], faces[rows][:, :, ::-1])
    np.testing.assert_array_equal(moved[~rows], faces[~rows])


def test_shift_moves_right_and_down_and_repeats_the_edge(faces):
    moved = apply(faces, uniforms(len(faces), x=1, y=1), **{**STILL, "shift": 0.125})  # 6 pixels
    np.testing.assert_array_equal(moved[:, 6:, 6:], faces[:, :-6, :-6])
    np.testing.assert_array_equal(moved[:, 6:, 0], faces[:, :-6, 0])


def test_half_turn_about_the_centre_is_both_mirrors(faces):
    moved = apply(faces, uniforms(len(faces), rotation=1), **{**STILL, "rotation": 180})
    np.testing.assert_allclose(moved.astype(int), faces[:, ::-1, ::-1], atol=1)


def test_zoom_of_two_keeps_the_centre_and_doubles_a_square():
    face = np.zeros((1, 48, 48), np.uint8)
    face[0, 18:30, 18:30] = 200
    moved = apply(face, uniforms(1, zoom=1), **{**STILL, "zoom": 0.999})[0]
    rows, columns = np.nonzero(moved > 100)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (12, 35, 12, 35)


def test_erase_fills_a_square_with_the_mean(faces):
    moved = apply(faces, uniforms(len(faces)), **STILL, erase=0.25)
    for face, out in zip(faces, moved, strict=True):
        assert (out[18:30, 18:30] == round(face.mean())).all()
        out[18:30, 18:30] = face[18:30, 18:30]
    np.testing.assert_array_equal(moved, faces)


def test_erase_is_cut_off_at_the_edges(faces):
    moved = apply(faces, uniforms(len(faces), erase_x=0, erase_y=1 - 1e-9), **STILL, erase=0.25)
    changed = (moved != faces).any(0)
    assert changed.any() and not changed[:40].any() and not changed[:, 7:].any()


def test_each_image_moves_by_its_own_row(faces):
    drawn = parameters((3,), len(faces))
    movements = {"flip": True, "rotation": 15, "shift": 0.1, "zoom": 0.1, "erase": 0.2}
    whole = apply(faces, drawn, **movements)
    np.testing.assert_array_equal(whole[5:9], apply(faces[5:9], drawn[5:9], **movements))
    assert (whole != faces).any((1, 2)).all() and whole.dtype == np.uint8


def test_read_only_and_empty_input(faces):
    faces.setflags(write=False)
    assert apply(faces, uniforms(len(faces)), **STILL).shape == faces.shape
    empty = apply(faces[:0], uniforms(0), flip=True, rotation=1, shift=0, zoom=0)
    assert empty.shape == (0, 48, 48)


def test_a_shrunk_face_shows_the_whole_face_mirrored_in_step(faces):
    smooth = np.add.outer(np.arange(48), 2 * np.arange(48)).astype(np.uint8)[None].repeat(2, 0)
    small = apply(smooth, uniforms(2), **STILL, side=32)
    assert small.shape == (2, 32, 32) and small.dtype == np.uint8
    centres = 1.5 * np.arange(32) + 0.25
    np.testing.assert_allclose(small[0], np.add.outer(centres, 2 * centres), atol=0.8)
    drawn, flip = parameters((3,), len(faces)), STILL | {"flip": True}
    mirrored = apply(faces, drawn, **flip, side=32)
    again = apply(faces[:, :, ::-1], drawn, **flip, side=32)
    assert np.abs(mirrored.astype(int) - again[:, :, ::-1]).max() <= 1
