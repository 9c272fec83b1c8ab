import colorsys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dl_lib.data.transforms import ColorShift, GaussianBlur, PhotometricDistortion, RandomBlur

IMAGE = np.random.default_rng(0).integers(0, 256, (24, 32, 3)).astype(np.uint8)


@given(brightness=st.floats(-255, 255), contrast=st.floats(0, 2), last=st.booleans())
@settings(max_examples=40, deadline=None)
def test_brightness_and_contrast_in_closed_form(brightness, contrast, last):
    """Values are clipped to 0..255 and never wrap around."""
    result = ColorShift(brightness=brightness, contrast=contrast, contrast_last=last).apply_image(IMAGE)
    brightened = np.clip(IMAGE + brightness, 0, 255)
    if last:
        brightened = np.rint(brightened)
    np.testing.assert_array_equal(result, np.rint(np.clip(brightened * contrast, 0, 255)))


def shifted(pixel, *, saturation, hue_degrees):
    hue, sat, value = colorsys.rgb_to_hsv(*(pixel / 255))
    return 255 * np.array(colorsys.hsv_to_rgb((hue + hue_degrees / 360) % 1, min(sat * saturation, 1), value))


@pytest.mark.parametrize("saturation", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("hue_degrees", [-18.0, 0.0, 18.0, 120.0])
def test_saturation_and_hue_match_colorsys(saturation, hue_degrees):
    result = ColorShift(saturation=saturation, hue_degrees=hue_degrees).apply_image(IMAGE)
    expected = [shifted(pixel, saturation=saturation, hue_degrees=hue_degrees) for pixel in IMAGE.reshape(-1, 3)]
    error = np.abs(result.reshape(-1, 3) - np.array(expected))
    assert error.max() < 10  # a hue step of 1/256 changes saturated colors by 6; saturation adds to that
    assert error.mean() < 1


def test_hue_offset_of_120_degrees_turns_red_into_green():
    red = np.zeros((1, 1, 3), np.uint8)
    red[..., 0] = 255
    green = ColorShift(hue_degrees=120).apply_image(red)[0, 0]
    assert (green[1], green[2]) == (255, 0)
    assert green[0] <= 3


def test_contrast_is_applied_first_or_last():
    """The order is visible where a value is clipped before or after scaling."""
    gray = np.full((1, 1, 3), 200, np.uint8)
    color = np.array([[[250, 20, 20]]], np.uint8)
    first = ColorShift(contrast=0.5, saturation=0.5)
    last = ColorShift(contrast=0.5, saturation=0.5, contrast_last=True)
    assert (first.apply_image(gray) == last.apply_image(gray)).all()
    boosted = [
        ColorShift(contrast=1.5, contrast_last=is_last, saturation=0.5).apply_image(color)[0, 0].tolist()
        for is_last in (False, True)
    ]
    assert boosted[0][1] < boosted[1][1]  # 30 of 255 versus 135 of 250, times 1.5


def test_defaults_are_the_identity():
    np.testing.assert_array_equal(ColorShift().apply_image(IMAGE), IMAGE)
    assert GaussianBlur(0.0).apply_image(IMAGE) is IMAGE


@pytest.mark.parametrize("transform", [ColorShift(brightness=30, saturation=1.3, hue_degrees=9), GaussianBlur(1.5)])
def test_label_size_and_input_image_are_unchanged(transform):
    label, before = np.arange(12).reshape(3, 4), IMAGE.copy()
    result = transform.apply_image(IMAGE)
    assert (result.shape, result.dtype) == (IMAGE.shape, np.uint8)
    assert (result != IMAGE).any()
    np.testing.assert_array_equal(IMAGE, before)
    assert transform.apply_label(label) is label
    assert transform.output_size((3, 4)) == (3, 4)


def test_blur_matches_a_gaussian_kernel():
    sigma, radius = 1.3, 8
    spot = np.zeros((33, 33, 3), np.uint8)
    spot[16, 16] = 255
    x = np.arange(-radius, radius + 1)
    kernel = np.exp(-(x**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    expected = np.zeros((33, 33))
    expected[16 - radius : 17 + radius, 16 - radius : 17 + radius] = 255 * np.outer(kernel, kernel)
    assert np.abs(GaussianBlur(sigma).apply_image(spot) - expected[..., None]).max() < 1


def test_distortions_follow_their_probability_and_range():
    rng = np.random.default_rng(0)
    shifts = [PhotometricDistortion(32, 0.5, 0.4, 18).get_transform(rng, size=(4, 4)) for _ in range(2000)]
    for name, neutral, limit in (
        ("brightness", 0, 32),
        ("contrast", 1, 0.5),
        ("saturation", 1, 0.4),
        ("hue_degrees", 0, 18),
    ):
        amounts = np.array([getattr(shift, name) for shift in shifts]) - neutral
        assert abs(np.mean(amounts != 0) - 0.5) < 0.04
        assert -limit <= amounts.min() < -0.98 * limit
        assert 0.98 * limit < amounts.max() <= limit
    assert abs(np.mean([shift.contrast_last for shift in shifts]) - 0.5) < 0.04


def test_blur_follows_its_probability_and_range():
    rng = np.random.default_rng(0)
    sigmas = np.array([RandomBlur(0.3, (0.5, 2.0)).get_transform(rng, size=(4, 4)).sigma_px for _ in range(2000)])
    assert abs(np.mean(sigmas > 0) - 0.3) < 0.04
    assert 0.5 <= sigmas[sigmas > 0].min() < 0.52
    assert 1.97 < sigmas.max() <= 2.0


@pytest.mark.parametrize(
    ("make", "received"),
    [
        (lambda: PhotometricDistortion(brightness=256), "brightness=256"),
        (lambda: PhotometricDistortion(contrast=1.1), "contrast=1.1"),
        (lambda: PhotometricDistortion(saturation=-0.1), "saturation=-0.1"),
        (lambda: PhotometricDistortion(hue_degrees=181), "hue_degrees=181"),
        (lambda: RandomBlur(1.1), r"probability=1.1, sigmas_px=\(0.1, 2.0\)"),
        (lambda: RandomBlur(0.5, (2.0, 1.0)), r"sigmas_px=\(2.0, 1.0\)"),
        (lambda: RandomBlur(0.5, (0.0, 1.0)), r"sigmas_px=\(0.0, 1.0\)"),
    ],
)
def test_invalid_arguments_raise(make, received):
    with pytest.raises(ValueError, match=f"Received: .*{received}$"):
        make()
