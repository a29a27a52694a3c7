"""Pictures that are nearly the same: what a copy may have gone through, and what must not be taken for one."""

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from tfdet.data.near_duplicates import Fingerprint, find_duplicates, fingerprint


def photo(seed, size=(320, 240)):
    """Something with the spectrum of photos: large shapes, fewer small ones, a little noise."""
    random = np.random.default_rng(seed)
    picture = np.zeros([size[1], size[0], 3])
    for cells, weight in ((3, 1.0), (7, 0.5), (16, 0.25), (50, 0.1)):
        noise = Image.fromarray(random.integers(0, 256, (cells, cells + 1, 3), np.uint8))
        picture += weight * np.asarray(noise.resize(size, Image.Resampling.BICUBIC), float)
    return Image.fromarray((picture / 1.85).astype(np.uint8))


def encoded(picture, kind="JPEG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


OTHERS = [fingerprint(encoded(photo(seed))) for seed in range(100, 140)]
CHANGES = {
    "a third of the size": lambda p: encoded(p.resize((107, 80), Image.Resampling.NEAREST)),
    "compressed anew": lambda p: encoded(p, quality=20),
    "a PNG": lambda p: encoded(p, "PNG"),
    "mirrored, smaller": lambda p: encoded(p.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((200, 150)), quality=40),
    "brighter": lambda p: encoded(ImageEnhance.Brightness(p).enhance(1.3)),
    "cut by two percent": lambda p: encoded(p.crop((6, 5, 320, 240))),
    "grey": lambda p: encoded(p.convert("L")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_is_found_among_others(change):
    for seed in range(3):
        prints = [
            *OTHERS[:20],
            fingerprint(encoded(photo(seed))),
            *OTHERS[20:],
            fingerprint(CHANGES[change](photo(seed))),
        ]
        (group,) = find_duplicates(prints)
        assert group.members == [20, 41] and not group.exact


def test_one_file_twice_is_exact_and_joins_near_ones():
    one = encoded(photo(1))
    prints = [fingerprint(data) for data in (one, encoded(photo(2)), one, CHANGES["brighter"](photo(1)))]
    assert find_duplicates(prints[:3])[0].members == [0, 2] and find_duplicates(prints[:3])[0].exact
    (group,) = find_duplicates(prints)
    assert group.members == [0, 2, 3] and not group.exact


def test_blank_pictures_and_broken_files_are_the_same_only_byte_for_byte():
    blank = [encoded(Image.new("RGB", (64, 48), (level,) * 3)) for level in (0, 1, 255)]
    prints = [fingerprint(data) for data in (*blank, b"no image", b"no image", b"")]
    assert prints[-1].grid is None
    assert [group.members for group in find_duplicates(prints)] == [[3, 4]]


def test_frames_of_a_film_are_one_group():
    """More than one block of comparisons; the first and the last frame alone are not alike."""
    random = np.random.default_rng(0)
    first, last = random.integers(0, 256, (2, 16, 16)).astype(float)
    shares = np.linspace(0, 1, 700)
    prints = [Fingerprint(str(n).encode(), ((1 - s) * first + s * last).astype(np.uint8)) for n, s in enumerate(shares)]
    assert find_duplicates([prints[0], prints[-1]]) == []
    assert [len(group.members) for group in find_duplicates(prints)] == [700]
