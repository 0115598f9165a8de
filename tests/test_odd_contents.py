"""Images as strangers save them: they become what a viewer shows, or are refused."""

from __future__ import annotations

import io

import numpy as np
import pytest
from image_files import picture
from PIL import Image

from minesweep.datasets.decode import square


def saved(image: Image.Image, kind: str = "PNG", **settings: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **settings)
    return out.getvalue()


RAMP = np.add.outer(np.arange(16), np.arange(16)).astype(np.float64) / 30


def close(content: bytes, expected: np.ndarray, within: float = 1.5) -> None:
    found = square(content, 16).astype(np.float64)
    assert np.abs(found - expected).max() <= within


@pytest.mark.parametrize("colour", [0, 255])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_content_in_the_alpha_channel_alone_is_seen(mode: str, colour: int) -> None:
    alpha = (RAMP * 255).round().astype(np.uint8)
    bands = [np.full_like(alpha, colour)] * (3 if mode == "RGBA" else 1)
    content = saved(Image.fromarray(np.stack([*bands, alpha], 2)))
    # Black lies on white, and white, which would not be seen there, on black.
    close(content, RAMP * 255 if colour else 255 - RAMP * 255)


def test_a_palette_with_transparency_lies_on_white() -> None:
    image = Image.fromarray((RAMP > 0.5).astype(np.uint8))
    image = image.convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    found = square(saved(image, transparency=0), 16)
    assert set(map(tuple, found.reshape(3, -1).T.tolist())) >= {(255, 255, 255), (40, 50, 60)}


def test_an_opaque_image_with_an_alpha_channel_is_itself() -> None:
    plain = Image.open(io.BytesIO(picture(3, size=(16, 16))))
    assert np.array_equal(square(saved(plain.convert("RGBA")), 16), square(saved(plain), 16))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (RAMP.astype(np.float32), RAMP * 255),
        ((RAMP * 65535).astype(np.float32), RAMP * 255),
        ((RAMP * 255).astype(np.float32), RAMP * 255),
        ((RAMP * 65535).astype(np.int32), RAMP * 255),
        ((RAMP * 255).astype(np.int32), RAMP * 255),
        ((RAMP * 65535).astype(np.uint16), RAMP * 255),
    ],
)
def test_deep_tiffs_are_scaled(values: np.ndarray, expected: np.ndarray) -> None:
    close(saved(Image.fromarray(values), "TIFF"), expected)


@pytest.mark.parametrize(
    "values",
    [-RAMP, RAMP * 1e6, np.where(RAMP > 0.9, np.nan, RAMP), np.where(RAMP > 0.9, np.inf, RAMP)],
)
def test_values_of_no_known_scale_are_refused(values: np.ndarray) -> None:
    content = saved(Image.fromarray(values.astype(np.float32)), "TIFF")
    with pytest.raises(ValueError, match="have no known scale: save it with 8 or 16 bits"):
        square(content, 16)


def test_broken_marks_of_the_camera_change_nothing() -> None:
    exif = Image.Exif()
    exif[0x0112] = 1
    content = saved(Image.open(io.BytesIO(picture(5, size=(16, 16)))), "JPEG", exif=exif)
    broken = content.replace(b"MM\x00*", b"MM\x00!").replace(b"II*\x00", b"II!\x00")
    assert broken != content
    assert np.array_equal(square(broken, 16), square(content, 16))


def test_one_bit_and_cmyk_are_what_they_show() -> None:
    bits = Image.fromarray(RAMP > 0.5)
    assert set(np.unique(square(saved(bits, "TIFF"), 16))) == {0, 255}
    red = saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "TIFF")
    assert square(red, 16)[:, 8, 8].tolist() == [255, 0, 0]


def test_a_large_image_is_read_and_a_huge_one_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    content = saved(Image.new("L", (14_000, 14_000), 70), "PNG")
    before = Image.MAX_IMAGE_PIXELS
    assert (square(content, 8) == 70).all()
    assert before == Image.MAX_IMAGE_PIXELS
    monkeypatch.setattr("minesweep.datasets.decode.MOST_PIXELS", 1000)
    with pytest.raises(ValueError, match="14000 x 14000 pixels are too many"):
        square(content, 8)
