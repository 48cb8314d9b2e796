"""Video to video against what lies in the files."""

import resource
import signal
import sys
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from fastscnn.predict.inputs import find_sources
from fastscnn.predict.predict import predict
from fastscnn.utils.files import WriteError

av = pytest.importorskip("av", reason="reads and writes videos")
from fastscnn.predict import video, video_reading  # noqa: E402
from helpers import predict_settings, random_image, refused, write_checkpoint  # noqa: E402

pytestmark = pytest.mark.usefixtures("shallow_networks")


def write_video(path, *, size=(48, 64), frames=12, rotation=0, sound=True, times=None, codec="", noise=0):
    """A film of a brightening picture, with a tone; noise makes its packets large."""
    with av.open(str(path), "w") as sink:
        pictures = sink.add_stream(codec or "mpeg4", rate=12)
        pictures.pix_fmt, pictures.height, pictures.width = "yuv420p", *size
        pictures.codec_context.time_base = Fraction(1, 1200)
        if rotation:
            pictures.set_display_rotation(rotation)
        tone = sink.add_stream("aac", rate=44100) if sound else None
        for number in range(frames):
            picture = random_image(0, size) // 2 + np.uint8(number % 16 * 8)
            picture ^= np.random.default_rng(number).integers(0, noise + 1, picture.shape, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
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
    chosen = predict_settings(checkpoint, tmp_path / "in", tmp_path / "out", write=["overlay", "labels"])
    outcome = predict(chosen)
    assert outcome.done == 1
    assert [reason.partition(":")[0] for reason in outcome.failed.values()] == ["no video"]
    assert len(list((tmp_path / "out/film_labels").glob("*.png"))) == 12
    assert len(shots_of(tmp_path / "out/film_overlay.mp4")) == 12
    assert sound_of(tmp_path / "out/film_overlay.mp4")
    assert not list((tmp_path / "out").glob("*unfinished*"))
    assert predict(chosen).there == 1


def test_confidence_of_a_film_is_a_film(tmp_path):
    film = write_video(tmp_path / "drive.mp4", frames=3)
    settings = predict_settings(write_checkpoint(tmp_path / "best.ckpt"), film, tmp_path / "out", write=["confidence"])
    assert predict(settings).failed == {}
    shots = shots_of(tmp_path / "out" / "drive_confidence.mp4")
    assert len(shots) == 3
    for _, picture in shots:
        assert picture.shape == (48, 64, 3)
        assert np.ptp(picture.astype(int), axis=2).max() <= 3, "grey"


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
    with refused("input", fix="pip install av."):
        predict(predict_settings("none.ckpt", tmp_path / "film.mp4", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def cut(film, frames):
    """The film's file up to where that many of its frames lie."""
    with av.open(str(film)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.size]
    path = film.with_name(f"cut{film.suffix}")
    path.write_bytes(film.read_bytes()[: places[frames]])
    return path


def write_film(path, *, frames=60, codec="mpeg4", times=None, sound=0.0, options=None):
    """A film whose pictures differ, with so many seconds of sound, as other programs write them."""
    with av.open(str(path), "w", options=options or {}) as sink:
        pictures = sink.add_stream(codec, rate=30)
        pictures.pix_fmt, pictures.height, pictures.width = "yuv420p", 48, 64
        pictures.codec_context.gop_size = 12
        pictures.codec_context.time_base = Fraction(1, 30)
        tone = sink.add_stream("aac", rate=44100) if sound else None
        for number, time in enumerate(times or range(frames)):
            frame = av.VideoFrame.from_ndarray(random_image(number, (48, 64)), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 30)
            sink.mux(pictures.encode(frame))
        sink.mux(pictures.encode())
        for start in range(0, int(44100 * sound), 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 44100, start, Fraction(1, 44100)
            sink.mux(tone.encode(frame))
        if tone:
            sink.mux(tone.encode())
    return path


FASTSTART = {"movflags": "faststart"}
KINDS = [("mp4", "mpeg4", FASTSTART), ("mov", "mpeg4", FASTSTART), ("avi", "mpeg4", None), ("mkv", "mpeg4", None)]
KINDS += [("webm", "libvpx", None), ("flv", "flv", None)]


@pytest.mark.parametrize("frames", [33, 1])
@pytest.mark.parametrize(("suffix", "codec", "options"), KINDS)
def test_film_that_ends_early_is_an_error_with_both_numbers_and_nothing_is_left(
    tmp_path, suffix, codec, options, frames
):
    film = cut(write_film(tmp_path / f"film.{suffix}", codec=codec, options=options), frames)
    with pytest.raises(OSError, match=r"^(it ends early, after|broken after) \d+ of 60 frames: ") as caught:
        list(video_reading.read_frames(film))
    assert abs(int(str(caught.value).partition("after ")[2].split()[0]) - frames) <= 1


@pytest.mark.parametrize("share", [0.97, 0.55, 0.25])
@pytest.mark.parametrize(("suffix", "codec", "options"), [*KINDS[:4], ("mp4", "mpeg4", None)])
def test_film_that_was_cut_anywhere_is_an_error(tmp_path, suffix, codec, options, share):
    film = write_film(tmp_path / f"film.{suffix}", codec=codec, options=options)
    film.write_bytes(film.read_bytes()[: int(share * film.stat().st_size)])
    try:
        found = len(list(video_reading.read_frames(film)))
    except OSError:
        return
    assert found >= 58, "two frames at the end are within what headers round"


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("a.mp4", {}),
        ("fragments.mp4", {"options": {"movflags": "frag_keyframe+empty_moov"}}),
        ("jumps.mp4", {"times": [0, 1, 2, 3, 40, 41, 42, 200]}),
        ("jumps.mkv", {"times": [0, 1, 2, 3, 40, 41, 42, 200]}),
        ("skipped.avi", {"times": range(0, 60, 3)}),
        ("late.mkv", {"times": range(300, 330)}),
        ("late.mp4", {"times": range(300, 330)}),
        ("sound.mkv", {"sound": 5.0}),
        ("sound.flv", {"sound": 5.0, "codec": "flv"}),
        ("sound.avi", {"sound": 5.0}),
        ("short sound.mp4", {"sound": 0.5}),
        ("a.flv", {"codec": "flv"}),
        ("a.webm", {"codec": "libvpx"}),
        ("a.wmv", {"codec": "wmv2"}),
        ("a.mpg", {"codec": "mpeg2video"}),
        ("a.ts", {"codec": "mpeg2video"}),
        ("a.m2ts", {"codec": "mpeg2video"}),
        ("one.mp4", {"frames": 1}),
        ("one.mkv", {"frames": 1}),
        ("one.avi", {"frames": 1}),
    ],
)
def test_whole_film_is_whole_whatever_its_header_counts(tmp_path, name, how):
    film = write_film(tmp_path / name, **how)
    frames = len(how.get("times", range(how.get("frames", 60))))
    assert len(list(video_reading.read_frames(film))) == frames
    (source,) = find_sources(film, tmp_path / "out")
    assert source.is_video


def test_film_whose_beginning_is_cut_off_by_an_edit_list_is_whole(tmp_path):
    """A cut without encoding begins at a key frame, and tells players to leave out what lies before the cut."""
    film = write_film(tmp_path / "film.mp4")
    with av.open(str(film)) as source, av.open(str(tmp_path / "cut.mp4"), "w") as sink:
        pictures = sink.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None and packet.pts * packet.time_base >= Fraction(12, 30):
                offset = int(Fraction(21, 30) / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - offset, packet.dts - offset, pictures
                sink.mux(packet)
    with av.open(str(tmp_path / "cut.mp4")) as container:
        assert container.streams.video[0].frames == 48
    assert len(list(video_reading.read_frames(tmp_path / "cut.mp4"))) == 39


@pytest.mark.parametrize(("suffix", "codec"), [(".mkv", "mpeg4"), (".flv", "flv1")])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_film_with_a_hole_is_an_error(tmp_path, suffix, codec, share):
    film = write_video(tmp_path / f"film{suffix}", size=(96, 128), frames=60, codec=codec, noise=15)
    data = bytearray(film.read_bytes())
    place = int(share * len(data))
    data[place : place + 3000] = bytes(3000)
    holed = tmp_path / f"holed{suffix}"
    holed.write_bytes(data)
    assert len(list(video_reading.read_frames(film))) == 60
    with pytest.raises(OSError, match=r"bytes within the file are no frames|ends early"):
        list(video_reading.read_frames(holed))


def test_film_whose_times_jump_is_whole(tmp_path):
    times = [100 * number + (3000 if number > 30 else 0) for number in range(60)]
    film = write_video(tmp_path / "film.mkv", size=(96, 128), frames=60, times=times, noise=15)
    assert len(list(video_reading.read_frames(film))) == 60


def test_film_that_ends_early_leaves_nothing_and_is_listed(tmp_path):
    (tmp_path / "in").mkdir()
    film = write_film(tmp_path / "in" / "film.avi", frames=9)
    cut(film, 4)
    checkpoint = write_checkpoint(tmp_path / "best.ckpt")
    outcome = predict(predict_settings(checkpoint, tmp_path / "in", tmp_path / "out", write=["overlay", "labels"]))
    assert outcome.done == 1
    (reason,) = outcome.failed.values()
    assert reason.startswith("it ends early, after 4 of 9 frames: ")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "film_labels",
        "film_overlay.mkv",
        "predict.json",
    ]


def test_frames_above_the_limit_are_refused_before_they_are_decoded(tmp_path):
    film = write_film(tmp_path / "film.mp4")
    with pytest.raises(OSError, match=r"48x64, 3,072 pixels, and the limit is 3,000: set max_pixels=3072"):
        next(video_reading.read_frames(film, max_pixels=3000))


def test_film_with_a_colon_in_its_name_and_one_without_a_suffix_are_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_film(tmp_path / "film.mp4").rename(tmp_path / "12:30.mp4")
    write_film(tmp_path / "film.ts", codec="mpeg2video").rename(tmp_path / "recording")
    for name in ("12:30.mp4", "recording"):
        (source,) = find_sources(name, tmp_path / "out")
        assert source.is_video
        video.rewrite(source.path, {"it": Path("out:1.mp4")}, lambda frame: {"it": frame})
        assert len(shots_of(tmp_path / "out:1.mp4")) == 60
    assert [source.name for source in find_sources(".", tmp_path / "out")] == ["12:30", "out:1", "recording"]


@pytest.mark.parametrize("name", ["notes.txt", "notes", "cover.mp3", "photo.heic", "code.m2v"])
def test_text_sound_with_a_cover_and_single_pictures_are_no_videos(tmp_path, name):
    if name.endswith("mp3"):
        with av.open(str(tmp_path / name), "w") as sink:
            tone, cover = sink.add_stream("mp3", rate=44100), sink.add_stream("png", rate=1)
            cover.pix_fmt, cover.height, cover.width = "rgb24", 48, 64
            frame = av.VideoFrame.from_ndarray(random_image(0, (48, 64)), format="rgb24")
            frame.pts, frame.time_base = 0, Fraction(1, 1)
            sink.mux(cover.encode(frame))
            for start in range(0, 44100, 1152):
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.float32), format="fltp", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = 44100, start, Fraction(1, 44100)
                sink.mux(tone.encode(frame))
            sink.mux(tone.encode())
    elif name.endswith("heic"):
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500))
    else:
        (tmp_path / name).write_text("export const words = 'FFmpeg draws them';\n" * 60)
    with refused("input", f"{name} is neither an image"):
        find_sources(tmp_path / name, tmp_path / "out")


def test_full_disk_is_told_with_the_file_that_found_no_room(tmp_path, monkeypatch):
    film = write_film(tmp_path / "film.mp4")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for suffix in ("mp4", "mkv", "avi"):
            for room in (3000, 20_000):
                resource.setrlimit(resource.RLIMIT_FSIZE, (room, limit[1]))
                with pytest.raises(WriteError, match=rf"new\.{suffix} cannot be written \(File too large\)"):
                    rewrite(film, tmp_path / f"new.{suffix}", lambda frame: frame)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)


def test_film_without_a_promise_that_ends_within_a_frame_is_done_and_says_so(tmp_path, capsys):
    film = write_film(tmp_path / "film.ts", frames=9, codec="mpeg2video")
    film.write_bytes(film.read_bytes()[: int(0.6 * film.stat().st_size)])
    checkpoint = write_checkpoint(tmp_path / "best.ckpt")
    assert predict(predict_settings(checkpoint, film, tmp_path / "out")).done == 1
    assert "frames are damaged, the last one too: the file may end early." in capsys.readouterr().err


def test_sound_that_the_new_file_does_not_take_is_left_out_and_named(tmp_path, capsys):
    with av.open(str(tmp_path / "film.m2ts"), "w") as sink:
        pictures, tone = sink.add_stream("mpeg2video", rate=25), sink.add_stream("pcm_bluray", rate=48000)
        pictures.pix_fmt, pictures.height, pictures.width = "yuv420p", 48, 64
        for number in range(5):
            frame = av.VideoFrame.from_ndarray(random_image(number, (48, 64)), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            sink.mux(pictures.encode(frame))
        sink.mux(pictures.encode())
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 2 * 9600), np.int16), format="s16", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
        sink.mux(tone.encode(frame))
        sink.mux(tone.encode())
    rewrite(tmp_path / "film.m2ts", tmp_path / "new.mkv", lambda frame: frame)
    assert len(shots_of(tmp_path / "new.mkv")) == 5
    assert capsys.readouterr().err == ".mkv files take no pcm_bluray sound: it is left out.\n"


def test_film_whose_frames_the_network_sees_smaller_is_named_once(tmp_path, capsys):
    write_video(tmp_path / "drive.mp4", sound=False)
    checkpoint = write_checkpoint(tmp_path / "best.ckpt")
    predict(predict_settings(checkpoint, tmp_path / "drive.mp4", tmp_path / "out", longest_side=32))
    said = [line for line in capsys.readouterr().out.splitlines() if "longest_side" in line]
    assert len(said) == 1
    assert said[0].startswith("drive.mp4 has 64x48 pixels, and the network sees it at 32x24")
