"""Video to video against what lies in the files."""

import sys
from fractions import Fraction

import cv2
import numpy as np
import pytest
from test_predict import picture, settings, write_checkpoint

from fastscnn.errors import RequestError
from fastscnn.inference.predict import predict

av = pytest.importorskip("av", reason="reads and writes videos")
from fastscnn.inference import video, video_reading  # noqa: E402


def write_video(path, *, size=(48, 64), frames=12, rotation=0, sound=True, times=None):
    """A film of a brightening picture, with a tone."""
    with av.open(str(path), "w") as sink:
        pictures = sink.add_stream("mpeg4", rate=12)
        pictures.pix_fmt, pictures.height, pictures.width = "yuv420p", *size
        pictures.codec_context.time_base = Fraction(1, 1200)
        if rotation:
            pictures.set_display_rotation(rotation)
        tone = sink.add_stream("aac", rate=44100) if sound else None
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(0, size) // 2 + np.uint8(number * 8), format="rgb24")
            frame.pts, frame.time_base = (times or range(0, 10**9, 100))[number], Fraction(1, 1200)
            sink.mux(pictures.encode(frame))
        sink.mux(pictures.encode())
        for start in range(0, 44100 if tone else 0, 1024):
            wave = np.sin(np.arange(start, start + 1024) / 16).astype(np.float32)[None]
            frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 44100, start, Fraction(1, 44100)
            sink.mux(tone.encode(frame))
        if tone:
            sink.mux(tone.encode())
    return path


def rewrite(film, target, draw):
    return video.rewrite(film, {"it": target}, lambda frame: {"it": draw(frame)})


def sound_of(path):
    with av.open(str(path)) as container:
        return [(packet.pts * packet.time_base, bytes(packet)) for packet in container.demux(audio=0) if packet.size]


def shots_of(path):
    with av.open(str(path)) as container:
        return [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sound_is_copied_and_each_frame_keeps_its_time(tmp_path, suffix):
    times = [0, 100, 150, 400, 500, 650, 700, 900, 1000, 1010, 1300, 1400]
    film = write_video(tmp_path / f"film{suffix}", times=times)
    seen = []
    reading = rewrite(film, tmp_path / f"out{suffix}", lambda frame: seen.append(frame) or 255 - frame)
    before, after = shots_of(film), shots_of(tmp_path / f"out{suffix}")
    assert reading.count == len(before) == len(after) == 12
    assert [time for time, _ in after] == pytest.approx([time for time, _ in before], abs=1e-3)
    for (_, old), frame, (_, new) in zip(before, seen, after, strict=True):
        assert (old == frame).all()
        assert abs(255.0 - old - new).mean() < 12, "drawn anew, but for what the encoder loses"
    assert [data for _, data in sound_of(film)] == [data for _, data in sound_of(tmp_path / f"out{suffix}")]
    assert sound_of(film)


def test_film_without_sound_and_with_odd_sides(tmp_path):
    film = write_video(tmp_path / "film.mp4", sound=False)
    rewrite(film, tmp_path / "out.mp4", lambda frame: frame[:47, :63])
    assert shots_of(tmp_path / "out.mp4")[0][1].shape == (48, 64, 3)


def test_film_of_a_telephone_is_turned_upright(tmp_path):
    film = write_video(tmp_path / "film.mp4", rotation=-90)
    lying, (upright, *_) = shots_of(film)[0][1], video_reading.read_frames(film)
    assert (upright == np.rot90(lying, -1)).all(), "a quarter turn clockwise"


def test_films_are_predicted_beside_images_and_a_broken_one_is_told(tmp_path):
    (tmp_path / "in").mkdir()
    film = write_video(tmp_path / "in/film.mp4")
    (tmp_path / "in/cut.mp4").write_bytes(film.read_bytes()[:200])
    checkpoint = write_checkpoint(tmp_path / "best.ckpt")
    chosen = settings(checkpoint, tmp_path / "in", tmp_path / "out", write=["overlay", "labels"])
    outcome = predict(chosen)
    assert outcome.done == 1
    assert [reason.partition(":")[0] for reason in outcome.failed.values()] == ["no video"]
    assert len(list((tmp_path / "out/film_labels").glob("*.png"))) == 12
    assert len(shots_of(tmp_path / "out/film_overlay.mp4")) == 12
    assert sound_of(tmp_path / "out/film_overlay.mp4")
    assert not list((tmp_path / "out").glob("*unfinished*"))
    assert predict(chosen).there == 1


def test_picture_is_no_video(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video at all")
    with pytest.raises(OSError, match="no video"):
        rewrite(tmp_path / "a.mp4", tmp_path / "b.mp4", lambda frame: frame)


def test_one_pass_makes_several_films_with_sound_and_a_folder_of_labels(tmp_path):
    film = write_video(tmp_path / "film.mp4")
    targets = {"overlay": tmp_path / "a.mp4", "color": tmp_path / "b.mkv", "labels": tmp_path / "labels"}
    seen = []

    def draw(frame):
        seen.append(len(seen))
        return {"overlay": frame, "color": frame[:, ::-1], "labels": np.full((48, 64), len(seen), np.uint8)}

    assert video.rewrite(film, targets, draw).count == len(seen) == 12
    sounds = [[data for _, data in sound_of(path)] for path in (film, tmp_path / "a.mp4", tmp_path / "b.mkv")]
    assert sounds[0] == sounds[1] == sounds[2]
    starts = [[float(t) - shots_of(path)[0][0] for t, _ in sound_of(path)] for path in (film, targets["color"])]
    assert starts[0] == pytest.approx(starts[1], abs=2e-3), "the sound fits the pictures in another kind of file too"
    labels = [cv2.imread(str(tmp_path / f"labels/{n:06d}.png"), cv2.IMREAD_UNCHANGED) for n in range(1, 13)]
    assert [int(label[0, 0]) for label in labels] == list(range(1, 13))


def test_colours_are_those_that_a_player_shows(tmp_path):
    """Of the picture's Y, Cb and Cr, as BT.709 has them for a pure colour (ITU-R BT.709-6, table 3)."""
    film = write_video(tmp_path / "film.mp4", sound=False)
    red, green, blue = (channel / 255 for channel in (244, 35, 232))
    rewrite(film, tmp_path / "out.mp4", lambda frame: np.full_like(frame, (244, 35, 232)))
    with av.open(str(tmp_path / "out.mp4")) as container:
        frame = next(container.decode(video=0))
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    planes = frame.to_ndarray()
    found = [planes[0, 0], planes[48, 0], planes[60, 0]]
    expected = [16 + 219 * luma, 128 + 224 * (blue - luma) / 1.8556, 128 + 224 * (red - luma) / 1.5748]
    assert found == pytest.approx(expected, abs=2)
    assert (frame.colorspace, frame.color_primaries, frame.color_range) == (1, 1, 1)


def test_mpeg4_stands_in_where_there_is_no_other_encoder(tmp_path, monkeypatch):
    """It takes no more than 65,535 steps a second, and a transport stream has 90,000."""
    film = write_video(tmp_path / "film.ts", sound=False)
    monkeypatch.setattr(video, "CODECS", ("no such encoder", "mpeg4"))
    rewrite(film, tmp_path / "out.mkv", lambda frame: frame)
    times = [[time - shots[0][0] for time, _ in shots] for shots in (shots_of(film), shots_of(tmp_path / "out.mkv"))]
    assert times[0] == pytest.approx(times[1], abs=2e-3)


def test_missing_package_is_one_sentence_before_anything_is_made(tmp_path, monkeypatch):
    write_video(tmp_path / "film.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(RequestError, match=r"pip install av\."):
        predict(settings("none.ckpt", tmp_path / "film.mp4", tmp_path / "out"))
    assert not (tmp_path / "out").exists()
