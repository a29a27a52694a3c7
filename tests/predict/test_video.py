"""Videos: frames in, drawn frames and a line of json for each out."""

import json
import sys

import cv2
import numpy as np
import pytest

from tests.fakes import picture
from tests.predict.color_predictor import ColorPredictor
from tests.predict.test_files import run
from tfdet.errors import UserError
from tfdet.predict.video import Video, VideoWriter, is_video

LIMIT = 10**6


@pytest.fixture
def clip(tmp_path):
    """Ten frames at 5 a second, in which a red box moves to the right by 8 pixels a frame."""
    path = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 5, (128, 64))
    for number in range(10):
        frame = picture(64, 128, {0: (8 + 8 * number, 8, 39 + 8 * number, 47)})
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return path


def test_every_frame_has_its_line_and_its_drawing(clip):
    output = clip.parent / "out"
    summary, text, content = run(ColorPredictor(), [clip], output, frame_stride=3, formats=["coco", "yolo"])
    assert summary.num_images == 4 and not summary.failed and "clip.mp4: 4 frames looked at" in text
    assert summary.written == ["detections.json", "labels/", "clip.jsonl", "1 video"]
    lines = [json.loads(line) for line in (output / "clip.jsonl").read_text().splitlines()]
    assert [(line["frame"], line["time"]) for line in lines] == [(0, 0.0), (3, 0.6), (6, 1.2), (9, 1.8)]
    for line in lines:
        (only,) = line["objects"]
        np.testing.assert_allclose(only["bbox"], [8 + 8 * line["frame"], 8, 32, 40], atol=2)
    assert [image["frame"] for image in content["images"]] == [0, 3, 6, 9] and len(content["annotations"]) == 4
    assert sorted(path.name for path in (output / "labels").iterdir())[1] == "clip_000003.txt"
    with Video(output / "clip.mp4", LIMIT) as drawn:
        assert (drawn.count, round(drawn.rate, 3)) == (4, round(5 / 3, 3))
        assert next(drawn.frames()).image.shape == (64, 128, 3)


def test_it_ends_where_it_is_told_to(clip):
    summary, _, _ = run(ColorPredictor(), [clip], clip.parent / "out", max_frames=2, pictures=False)
    assert summary.num_images == 2 and not summary.failed and not (clip.parent / "out/clip.mp4").exists()


def test_what_is_no_video_is_one_line(clip):
    (clip.parent / "text.mp4").write_text("not a video")
    (clip.parent / "cut.mp4").write_bytes(clip.read_bytes()[:400])
    files = [clip.parent / name for name in ("text.mp4", "absent.mov", "cut.mp4")]
    summary, text, _ = run(ColorPredictor(), [*files, "camera:99"], clip.parent / "out")
    assert len(summary.failed) == 4 == len(text.splitlines())
    assert "it is no video, or damaged" in text and "No such file" in text and "cannot open the camera:99" in text
    with pytest.raises(UserError, match="is 128x64, more than the 100 pixels"):
        Video(clip, 100)


def test_what_was_seen_is_written_where_ctrl_c_ends_it(clip):
    class Interrupted(ColorPredictor):
        calls = 0

        def __call__(self, image, path=None):
            self.calls += 1
            if self.calls == 4:
                raise KeyboardInterrupt
            return super().__call__(image, path)

    output = clip.parent / "out"
    with pytest.raises(KeyboardInterrupt):
        run(Interrupted(), [clip, clip], output)
    assert len((output / "clip.jsonl").read_text().splitlines()) == 3
    assert len(json.loads((output / "detections.json").read_text())["images"]) == 3
    with Video(output / "clip.mp4", LIMIT) as drawn:
        assert drawn.count == 3
    assert sorted(path.name for path in output.iterdir()) == ["clip.jsonl", "clip.mp4", "detections.json"]


def test_a_cameras_video_is_as_fast_as_its_frames_came(tmp_path):
    writer = VideoWriter(tmp_path / "a.mp4", None)
    for seconds in (0, 7, 7.25, 7.5, 7.75, 8, 8.25, 8.5):
        writer.add(np.zeros([32, 32, 3], np.uint8), seconds)
    writer.close()
    with Video(tmp_path / "a.mp4", LIMIT) as video:
        assert (round(video.rate, 3), video.count) == (4.0, 8)


def test_what_is_taken_for_a_video(monkeypatch, clip):
    assert is_video("a/b.MOV") and is_video("camera:0") and not is_video("camera:x") and not is_video("a.gif")
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match=r"pip install 'tfdet\[video\]'"):
        Video(clip, LIMIT)
