"""Video to video against what lies in the files."""

from fractions import Fraction

import numpy as np
import pytest
from test_predict import picture, settings, write_checkpoint

from fastscnn.inference.predict import predict

av = pytest.importorskip("av", reason="reads and writes videos")
from fastscnn.inference import video  # noqa: E402


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
    count = video.rewrite(film, tmp_path / f"out{suffix}", lambda frame: seen.append(frame) or 255 - frame)
    before, after = shots_of(film), shots_of(tmp_path / f"out{suffix}")
    assert count == len(before) == len(after) == 12
    assert [time for time, _ in after] == pytest.approx([time for time, _ in before], abs=1e-3)
    for (_, old), frame, (_, new) in zip(before, seen, after, strict=True):
        assert (old == frame).all()
        assert abs(255.0 - old - new).mean() < 12, "drawn anew, but for what the encoder loses"
    assert [data for _, data in sound_of(film)] == [data for _, data in sound_of(tmp_path / f"out{suffix}")]
    assert sound_of(film)


def test_film_without_sound_and_with_odd_sides(tmp_path):
    film = write_video(tmp_path / "film.mp4", sound=False)
    video.rewrite(film, tmp_path / "out.mp4", lambda frame: frame[:47, :63])
    assert shots_of(tmp_path / "out.mp4")[0][1].shape == (48, 64, 3)


def test_film_of_a_telephone_is_turned_upright(tmp_path):
    film = write_video(tmp_path / "film.mp4", rotation=-90)
    lying, (upright, *_) = shots_of(film)[0][1], video.read_frames(film)
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
        video.rewrite(tmp_path / "a.mp4", tmp_path / "b.mp4", lambda frame: frame)
