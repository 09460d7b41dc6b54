"""Videos become interleaved documents; a hostile one costs itself, whatever it does to the process that decodes it."""

import io
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from importers import dropped, kinds, run

from arm import recipes
from arm.data.config import VideoConfig
from arm.data.formats.rows import Blob, Unfit
from arm.data.images import decode_image
from arm.data.tar import write_members
from arm.data.video.captions import Caption, place, read_captions
from arm.data.video.decoding import Decoder
from arm.errors import UserError
from arm.records import Image, Sample

av = pytest.importorskip("av")

GREYS = (0, 40, 80, 120, 160, 200, 240)
"""One a second."""


def video(
    path: Path,
    *,
    form: str = "mp4",
    codec: str = "mpeg4",
    size: tuple[int, int] = (64, 48),
    greys: Sequence[int] = GREYS,
) -> bytes:
    """A video of ten frames a second, each second of one grey, with a silent sound track beside it."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=form) as film:
        stream = film.add_stream(codec, rate=10)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for grey in greys:
            frame = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), grey, np.uint8), format="rgb24")
            for _ in range(10):
                film.mux(stream.encode(frame))
        film.mux(stream.encode())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())
    return buffer.getvalue()


def greys(sample: Sample) -> list[int]:
    """The greys of the frames, rounded to those of GREYS."""
    means = [float(decode_image(part).mean()) for part in sample.parts if isinstance(part, Image)]
    return [min(GREYS, key=lambda grey: abs(grey - mean)) for mean in means]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return video(tmp_path_factory.mktemp("film") / "film.mp4")


def test_frames_at_a_stated_rate_with_the_captions_that_begin_after_each(tmp_path: Path, film: bytes) -> None:
    """Seven seconds, a frame every two: at 0, 2, 4 (no more than three); what is said after 6 s is never seen."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.mp4").write_bytes(film)
    (tmp_path / "in/a.srt").write_text(
        "1\n00:00:00,500 --> 00:00:01,000\n<i>Dark</i>\nnight.\n\n2\n00:00:02,000 --> 00:00:03,000\nDusk.\n\n"
        "3\n00:00:03,900 --> 00:00:05,000\nDawn &amp; dew.\n\n4\n00:00:06,100 --> 00:00:07,000\nNoon.\n"
    )
    config = VideoConfig(frames_per_second=0.5, max_frames=3)
    (sample,), counts = run(tmp_path, "folder", tmp_path / "in", "interleaved_video", video=config)
    assert kinds(sample) == ["image", "text: Dark night.", "image", "text: Dusk.", "text: Dawn & dew.", "image"]
    assert greys(sample) == [GREYS[0], GREYS[2], GREYS[4]]
    assert (sample.task, dropped(counts)) == ("interleaved_video", {})


def test_a_text_of_the_whole_video_stands_before_its_frames(tmp_path: Path, film: bytes) -> None:
    """In a WebDataset, beside files, and with the names of OpenVid's table; the same frames by two children as by one."""
    write_members(
        tmp_path / "w.tar",
        [("1.mp4", film), ("1.txt", b"It dawns."), ("2.mp4", film), ("3.mp4", b"no video"), ("3.txt", b"x")],
    )
    config = VideoConfig(max_frames=2, max_side=32)
    (sample,), counts = run(tmp_path / "1", "webdataset", tmp_path / "w.tar", "interleaved_video", video=config)
    assert kinds(sample) == ["text: It dawns.", "image", "image"]
    assert [(part.width, part.height) for part in sample.parts if isinstance(part, Image)] == [(32, 24), (32, 24)]
    assert dropped(counts) == {"no_text": 1, "not_a_video": 1}
    folder = tmp_path / "data/openvid"
    (folder / "video").mkdir(parents=True)
    for name in ("a_0_0to70.mp4", "b.mp4"):
        (folder / "video" / name).write_bytes(film)
    (folder / "OpenVid-1M.csv").write_text(
        "video,caption,aesthetic score,frame,fps,seconds\n"
        "video/a_0_0to70.mp4,It dawns.,5.1,70,10,7\nvideo/b.mp4,It dawns again.,5,70,10,7\nvideo/gone.mp4,?,5,70,10,7\n"
    )
    (declared,) = (s for s in recipes.find("small").config("import-samples-training").sources if s.name == "videos")
    found = [
        run(
            tmp_path / f"workers-{workers}", declared.format, folder, declared.task, columns=dict(declared.columns),
            options={"workers": workers},
        )
        for workers in (1, 2)
    ]  # fmt: skip
    assert found[0] == found[1]
    assert [kinds(sample)[0] for sample in found[0][0]] == ["text: It dawns.", "text: It dawns again."]
    assert (greys(found[0][0][0]), dropped(found[0][1])) == (list(GREYS[:6]), {"no_video": 1})


HOSTILE = {
    "a_playlist.mp4": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
    "a_concatenation.mp4": b"ffconcat version 1.0\nfile /etc/passwd\n",
    "a_session.mp4": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 169.254.169.254\nm=video 80 RTP/AVP 96\n",
    "empty.mp4": b"",
    "boxes_alone.mp4": b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + b"\0\0\0\x08free" * 1_000,
    "an_endless_box.mp4": b"\0\0\0\x18ftypisom\0\0\2\0isomiso2\0\0\0\x01moov\xff\xff\xff\xff\xff\xff\xff\xff",
    "noise.mkv": b"\x1a\x45\xdf\xa3" + bytes(range(256)) * 40,
}


def test_hostile_files_are_dropped_each_for_itself(tmp_path: Path, film: bytes) -> None:
    """Playlists would be followed, a box would have 16 EiB, a JPEG claims 65,500 × 65,500 pixels; the last film is good."""
    motion = video(tmp_path / "m.avi", form="avi", codec="mjpeg", greys=GREYS[:1])
    place = motion.index(b"\xff\xc0") + 5
    huge = motion[:place] + (65_500).to_bytes(2, "big") * 2 + motion[place + 4 :]
    (tmp_path / "in").mkdir()
    for name, data in (HOSTILE | {"huge.avi": huge, "cut.mp4": film[:-900], "z_good.mp4": film}).items():
        (tmp_path / "in" / name).write_bytes(data)
        (tmp_path / "in" / name).with_suffix(".txt").write_text(name)
    samples, counts = run(tmp_path, "folder", tmp_path / "in", "interleaved_video")
    assert [kinds(sample)[0] for sample in samples] == ["text: z_good.mp4"]
    assert dropped(counts) == {"not_a_video": 4, "no_video": 1, "bad_video": 4}


def test_a_child_that_dies_costs_one_video_and_one_that_is_killed_none(tmp_path: Path, film: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(film)
    blob = Blob(tmp_path / "a.mp4", 0, len(film))
    decoder = Decoder(VideoConfig(max_frames=1))
    for deadly, reason in ((signal.SIGSEGV, "bad_video"), (signal.SIGXCPU, "slow_video")):
        decoder._running().send_signal(signal.SIGSTOP)
        decoder.submit(blob)
        os.kill(decoder._running().pid, deadly)
        os.kill(decoder._running().pid, signal.SIGCONT)
        with pytest.raises(Unfit, match=reason):
            decoder.result()
    decoder._running().send_signal(signal.SIGSTOP)
    decoder.submit(film)
    os.kill(decoder._running().pid, signal.SIGKILL)
    assert [frame.seconds for frame in decoder.result()] == [0.0]
    child = decoder._running()
    decoder.close()
    assert child.poll() is not None


@pytest.mark.slow
def test_a_video_that_costs_too_much_is_dropped(tmp_path: Path, film: bytes) -> None:
    """90 frames of nine megapixels take far more than the one second of CPU that is allowed."""
    video(tmp_path / "in/a.mp4", size=(4_096, 2_304), greys=GREYS + GREYS[:2])
    (tmp_path / "in/b.mp4").write_bytes(film)
    for name in "ab":
        (tmp_path / f"in/{name}.txt").write_text(name)
    config = VideoConfig(frames_per_second=10, max_frames=90, max_cpu_seconds=1)
    samples, counts = run(tmp_path, "folder", tmp_path / "in", "interleaved_video", video=config)
    assert ([kinds(sample)[0] for sample in samples], dropped(counts)) == (["text: b"], {"slow_video": 1})


@pytest.mark.parametrize(
    "written",
    [
        "WEBVTT - a film\n\nNOTE none\n\nSTYLE\n::cue { color: red }\n\n00:01.500 --> 00:02.000 align:start\n<c.loud>One</c>\n\n"
        "id\n01:00:02.000 --> 01:00:03.000\ntwo\nlines\n",
        '[{"start": 1.5, "text": "One"}, {"start": "01:00:02", "text": "two lines"}]',
        '{"segments": [{"start": 3602, "caption": "two lines"}, {"start": 1.5, "caption": "One"}]}',
        [{"timestamp": [1.5, 2], "sentence": "One"}, {"timestamp": [3602.0, 3603.0], "sentence": "two lines"}],
    ],
)  # fmt: skip
def test_captions_of_every_kind(written: object) -> None:
    assert read_captions(written) == (Caption(1.5, "One"), Caption(3602.0, "two lines"))


@pytest.mark.parametrize(
    "written", ["", "no cues", "[", "{}", [{"text": "when?"}], [{"start": -1, "text": "x"}], 7, "[" * 10**5]
)
def test_captions_that_are_none(written: object) -> None:
    with pytest.raises(Unfit, match="bad_captions"):
        read_captions(written)


def test_a_caption_stands_after_the_frame_during_which_it_begins() -> None:
    said = [Caption(None, "all"), Caption(0.2, "a"), Caption(1.9, "b"), Caption(2.0, "c"), Caption(3.0, "never seen")]
    assert place(said, [0.0, 1.0, 2.0], 1.0) == [["all"], ["a"], ["b"], ["c"]]


def test_frames_beyond_the_parts_of_a_sample_are_refused() -> None:
    with pytest.raises(UserError, match="max_frames is 401; give 1 to 400"):
        VideoConfig(max_frames=401)
