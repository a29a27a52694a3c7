import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfdet.data.images import ImageError, decode_image, image_size, prepare_image, read_image
from tfdet.data.schema import decode_rgb
from tfdet.errors import UserError
from tfdet.export import saved_model


def encode(array_or_image, kind="PNG", **options):
    image = array_or_image if isinstance(array_or_image, Image.Image) else Image.fromarray(array_or_image)
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def in_tensorflow(prepared):
    return decode_rgb(tf.constant(prepared.encoded)).numpy()


@pytest.fixture
def gradient():
    rows, columns = np.mgrid[0:20, 0:30]
    return np.stack([rows * 10, columns * 8, rows + columns], axis=-1).astype(np.uint8)


def test_plain_images_keep_their_bytes(make_jpeg, gradient):
    for encoded, kind in ((make_jpeg(20, 30), "jpeg"), (encode(gradient), "png")):
        prepared = prepare_image(encoded, 20, 30)
        assert prepared.encoded is encoded
        assert (prepared.format, prepared.height, prepared.width, prepared.changes) == (kind, 20, 30, ())


def test_pixels_in_tensorflow_are_those_of_pil(make_jpeg):
    encoded = make_jpeg(67, 91, seed=5)
    np.testing.assert_array_equal(decode_rgb(tf.constant(encoded)).numpy(), decode_image(encoded))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation, tmp_path):
    """The upper left corner of the upright picture is red, whichever way it was stored."""
    upright = np.zeros((24, 40, 3), np.uint8)
    upright[:12, :20] = (255, 0, 0)
    # how the upright picture looks when stored so that `orientation` turns it back
    store = {
        1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2), 6: lambda a: np.rot90(a, 1), 7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    encoded = encode(np.ascontiguousarray(store[orientation](upright)), "JPEG", exif=exif, quality=95, subsampling=0)
    prepared = prepare_image(encoded, 24, 40)
    assert np.abs(in_tensorflow(prepared).astype(int) - upright).max() < 60  # ringing at the edges
    assert np.abs(in_tensorflow(prepared).astype(int) - upright).mean() < 3
    assert bool(prepared.changes) == (orientation != 1)
    assert Image.open(io.BytesIO(prepared.encoded)).getexif().get(0x0112, 1) == 1
    path = tmp_path / "picture.jpg"
    path.write_bytes(encoded)
    assert np.abs(read_image(path).astype(int) - upright).mean() < 3


def test_annotation_of_the_unturned_size_keeps_the_picture_as_stored(make_jpeg):
    exif = Image.Exif()
    exif[0x0112] = 6
    encoded = make_jpeg(20, 30, exif=exif)
    assert (prepare_image(encoded, 20, 30).height, prepare_image(encoded, 20, 30).encoded) == (20, encoded)
    assert (prepare_image(encoded, 30, 20).height, prepare_image(encoded).height) == (30, 30)
    with pytest.raises(ImageError, match="is 30x20 but the annotation says 25x20"):
        prepare_image(encoded, 20, 25)


def test_other_colour_spaces_become_rgb(gradient):
    grey = gradient[..., 0]
    palette = Image.fromarray(gradient).quantize(16)
    alpha = np.concatenate([gradient, np.full((20, 30, 1), 7, np.uint8)], axis=-1)
    cases = {
        "grey with a transparent level": (encode(grey, transparency=9), np.repeat(grey[..., None], 3, axis=-1)),
        "palette with a transparent colour": (encode(palette, transparency=3), np.asarray(palette.convert("RGB"))),
        "alpha": (encode(alpha), gradient),
        "16-bit grey": (encode(Image.fromarray(grey.astype(np.uint16) * 256 + 99)), np.repeat(grey[..., None], 3, -1)),
        "BMP": (encode(gradient, "BMP"), gradient),
        "WEBP": (encode(gradient, "WEBP", lossless=True), gradient),
        "GIF": (encode(palette, "GIF"), np.asarray(palette.convert("RGB"))),
    }
    for name, (encoded, expected) in cases.items():
        prepared = prepare_image(encoded, 20, 30)
        assert prepared.changes, name
        assert prepared.format == "png", name
        np.testing.assert_array_equal(in_tensorflow(prepared), expected, err_msg=name)
        np.testing.assert_array_equal(decode_image(encoded), expected, err_msg=name)


def test_sixteen_bit_rgb_png_is_stored_with_eight(gradient):
    deep = tf.io.encode_png(tf.constant(gradient.astype(np.uint16) * 256 + 200)).numpy()
    prepared = prepare_image(deep)
    assert prepared.changes
    np.testing.assert_array_equal(in_tensorflow(prepared), gradient)


def test_grey_and_palette_keep_their_bytes(make_jpeg, gradient):
    grey, palette = gradient[..., 0], Image.fromarray(gradient)
    cases = {
        "baseline JPEG": make_jpeg(20, 30, mode="L"),
        "progressive JPEG": make_jpeg(20, 30, mode="L", progressive=True),
        "grey PNG": encode(grey),
        "black and white PNG": encode(Image.fromarray(grey > 90)),
        "palette PNG": encode(palette.quantize(200)),
        "palette PNG of 2 bits": encode(palette.quantize(4), bits=2),
    }
    for name, encoded in cases.items():
        prepared = prepare_image(encoded, 20, 30)
        assert prepared.encoded is encoded, name
        assert (prepared.format, prepared.changes) == ("png" if "PNG" in name else "jpeg", ()), name
        pixels = decode_image(encoded)
        assert pixels.std() > 20, name  # a picture, not a flat field
        np.testing.assert_array_equal(in_tensorflow(prepared), pixels, err_msg=name)
        exported = saved_model.decode_image(tf.constant(encoded)).numpy()
        np.testing.assert_array_equal(exported, pixels, err_msg=name)


def test_cmyk_and_turned_grey_jpegs_are_stored_anew(make_jpeg):
    exif = Image.Exif()
    exif[0x0112] = 6
    for encoded in (make_jpeg(40, 50, mode="CMYK"), make_jpeg(50, 40, mode="L", exif=exif)):
        prepared = prepare_image(encoded, 40, 50)
        assert prepared.format == "jpeg" and prepared.changes
        expected = decode_image(encoded).astype(int)
        assert np.abs(in_tensorflow(prepared) - expected).max() <= 8
        assert expected.std() > 20


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"text", lambda data: data[40:]]
)
def test_broken_files_are_refused(damage, make_jpeg, tmp_path):
    encoded = damage(make_jpeg(40, 60))
    with pytest.raises(ImageError):
        prepare_image(encoded)
    path = tmp_path / "broken.jpg"
    path.write_bytes(encoded)
    with pytest.raises(UserError, match="broken.jpg"):
        read_image(path)
    with pytest.raises(UserError, match="nowhere.jpg"):
        read_image(tmp_path / "nowhere.jpg")


def test_truncated_png_is_refused(gradient):
    with pytest.raises(ImageError):
        prepare_image(encode(gradient)[:-60])


@pytest.mark.parametrize("mode", ["RGB", "P", "L"])
def test_a_png_whose_last_bytes_are_lost_is_written_anew(gradient, mode):
    """PIL reads every pixel of it; TensorFlow, which reads the records, refuses it."""
    whole = encode(Image.fromarray(gradient).convert(mode))
    for damaged in (whole[:-12], whole[:-3], whole[:-13] + b"x" + whole[-12:]):
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode_rgb(damaged)
        prepared = prepare_image(damaged, 20, 30)
        assert "written anew" in prepared.changes[0]
        np.testing.assert_array_equal(in_tensorflow(prepared), decode_image(whole))


def test_float_pixels_are_refused():
    with pytest.raises(ImageError, match="floating-point"):
        prepare_image(encode(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"))


@pytest.mark.parametrize("kind", ["WEBP", "TIFF", "BMP", "AVIF", "JPEG2000", "GIF", "PNG"])
def test_what_training_decodes_is_let_into_records_and_nothing_else(gradient, kind):
    """The twin of what TensorFlow does: only these two lists together say that a record can be trained on."""
    picture = Image.fromarray(gradient)
    still = encode(gradient, kind)
    buffer = io.BytesIO()
    picture.save(buffer, format="GIF", save_all=True, append_images=[picture.transpose(Image.Transpose.ROTATE_180)])
    for encoded in (still, *([buffer.getvalue()] if kind == "GIF" else [])):
        try:
            size = decode_rgb(encoded).shape[:2]
        except (tf.errors.OpError, ValueError):
            with pytest.raises(ImageError, match=f"{kind}.*which training cannot decode"):
                image_size(encoded)
        else:
            assert kind in ("GIF", "PNG") and encoded == still and image_size(encoded) == tuple(size)


def test_image_size_reads_the_header(make_jpeg):
    assert image_size(make_jpeg(20, 30)) == (20, 30)
