"""Every format of sound to mono 16,000 Hz, and the windows of it: indexer/media/audio."""

from __future__ import annotations

import threading
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import soxr
from bad_files import sound_bytes, sound_samples, wav_bytes

from indexer.errors import MediaError
from indexer.items import Item, Modality
from indexer.limits import SAMPLE_RATE_HZ, MediaLimits
from indexer.media.audio.decode import read_sound, sound_windows
from indexer.media.decode import decode

LIMITS = MediaLimits()
RATE = SAMPLE_RATE_HZ


def tone_hz(samples: np.ndarray) -> float:
    """The loudest frequency."""
    strength = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(strength) * RATE / len(samples))


def encoded(
    path: Path, codec: str, container: str, *, seconds: float = 3.0, options: dict[str, str] | None = None
) -> Path:
    """A tone of 1,000 Hz in stereo at 48,000 Hz, by FFmpeg."""
    wave = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(round(seconds * 48_000)) / 48_000)
    is_whole = codec == "alac"  # of whole numbers
    both = np.stack([wave, wave])
    values = (both * 32767).astype(np.int16) if is_whole else both.astype(np.float32)
    with av.open(str(path), "w", format=container, options=options or {}) as file:
        stream = file.add_stream(codec, rate=48_000, layout="stereo")
        stream.bit_rate = 128_000
        frame = av.AudioFrame.from_ndarray(values, format="s16p" if is_whole else "fltp", layout="stereo")
        frame.sample_rate = 48_000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            if packet.size:
                file.mux(packet)
    return path


@pytest.mark.parametrize(
    ("name", "format", "subtype"),
    [
        ("a.wav", "WAV", "PCM_U8"),
        ("a.wav", "WAV", "PCM_16"),
        ("a.wav", "WAV", "PCM_24"),
        ("a.wav", "WAV", "FLOAT"),
        ("a.wav", "WAV", "DOUBLE"),
        ("a.wav", "WAV", "ULAW"),
        ("a.wav", "WAV", "IMA_ADPCM"),
        ("a.wav", "WAVEX", "PCM_16"),
        ("a.wav", "RF64", "PCM_16"),
        ("a.w64", "W64", "PCM_16"),
        ("a.flac", "FLAC", "PCM_24"),
        ("a.ogg", "OGG", "VORBIS"),
        ("a.opus", "OGG", "OPUS"),
        ("a.mp3", "MP3", "MPEG_LAYER_III"),
        ("a.aiff", "AIFF", "PCM_16"),
        ("a.aif", "AIFF", "FLOAT"),
        ("a.caf", "CAF", "PCM_16"),
        ("a.au", "AU", "PCM_16"),
    ],
)
def test_formats_of_libsndfile_are_read(tmp_path: Path, name: str, format: str, subtype: str) -> None:
    wave = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(3 * 48_000) / 48_000)
    soundfile.write(tmp_path / name, np.stack([wave, wave], axis=1), 48_000, format=format, subtype=subtype)
    samples, duration_s = read_sound(tmp_path / name, LIMITS)
    assert (samples.dtype, samples.ndim) == (np.float32, 1)
    assert duration_s == len(samples) / RATE == pytest.approx(3.0, abs=0.05)
    assert tone_hz(samples) == pytest.approx(1000, abs=1)
    assert 0.45 < np.abs(samples[RATE : 2 * RATE]).max() < 0.6


@pytest.mark.parametrize(
    ("name", "codec", "container"),
    [
        ("a.m4a", "aac", "ipod"),
        ("a.m4b", "aac", "mp4"),
        ("a.aac", "aac", "adts"),
        ("a.wma", "wmav2", "asf"),
        ("a.ac3", "ac3", "ac3"),
        ("a.mka", "aac", "matroska"),
        ("a.m4a", "alac", "ipod"),
    ],
)
def test_formats_of_ffmpeg_are_read(tmp_path: Path, name: str, codec: str, container: str) -> None:
    encoded(tmp_path / name, codec, container)
    samples, duration_s = read_sound(tmp_path / name, LIMITS)
    assert duration_s == pytest.approx(3.0, abs=0.1)
    assert tone_hz(samples[RATE // 2 : -RATE // 2]) == pytest.approx(1000, abs=1)
    assert 0.4 < np.abs(samples[RATE : 2 * RATE]).max() < 0.6


def test_the_content_decides_not_the_suffix(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_bytes(sound_bytes("FLAC", "PCM_16"))
    assert read_sound(tmp_path / "a.mp3", LIMITS)[1] == 1.0


def test_a_sound_at_the_right_rate_is_given_back_untouched(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", sound_samples(2.0), RATE, subtype="FLOAT")
    np.testing.assert_array_equal(read_sound(tmp_path / "a.wav", LIMITS)[0], sound_samples(2.0))


def test_channels_are_averaged(tmp_path: Path) -> None:
    one, two, three = (sound_samples(1.0, seed=seed) for seed in range(3))
    soundfile.write(tmp_path / "a.wav", np.stack([one, two, three], axis=1), RATE, subtype="FLOAT")
    np.testing.assert_allclose(read_sound(tmp_path / "a.wav", LIMITS)[0], (one + two + three) / 3, atol=1e-6)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 44_100, 192_000])
def test_resampling_by_blocks_is_the_same_as_resampling_the_whole(tmp_path: Path, rate_hz: int) -> None:
    whole = sound_samples(10.0, rate_hz)
    soundfile.write(tmp_path / "a.wav", whole, rate_hz, subtype="FLOAT")
    samples, duration_s = read_sound(tmp_path / "a.wav", LIMITS)
    expected = soxr.resample(whole, rate_hz, RATE, quality="HQ")
    assert duration_s == pytest.approx(10.0, abs=0.001)
    assert abs(len(samples) - len(expected)) <= 1
    shared = min(len(samples), len(expected))
    np.testing.assert_allclose(samples[:shared], expected[:shared], atol=1e-4)


@pytest.mark.parametrize(("name", "codec", "container"), [("a.m4a", "aac", "ipod"), ("a.wma", "wmav2", "asf")])
def test_a_file_gives_the_same_samples_every_time(tmp_path: Path, name: str, codec: str, container: str) -> None:
    path = encoded(tmp_path / name, codec, container)
    first = read_sound(path, LIMITS)[0]
    assert all(np.array_equal(read_sound(path, LIMITS)[0], first) for _ in range(3))


def test_a_sound_beyond_full_scale_is_scaled_down_not_clipped(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", sound_samples(1.0) * 20_000, RATE, subtype="FLOAT")
    samples = read_sound(tmp_path / "a.wav", LIMITS)[0]
    assert np.abs(samples).max() == pytest.approx(1.0)
    expected = sound_samples(1.0) / np.abs(sound_samples(1.0)).max()
    np.testing.assert_allclose(samples, expected, atol=1e-5)


def test_a_recording_whose_length_was_never_written_is_read_to_its_end(tmp_path: Path) -> None:
    whole = (sound_samples(1.0) * 32767).astype(np.int16)
    for promised in (0, 0xFFFFFFFF, 0x7FFFF000, 0x80000000):
        riff = promised + 36 if promised < 0xFFFF_FF00 else promised
        (tmp_path / "a.wav").write_bytes(wav_bytes(whole, data_bytes=promised, riff_bytes=riff))
        samples, duration_s = read_sound(tmp_path / "a.wav", LIMITS)
        assert duration_s == 1.0, hex(promised)
        np.testing.assert_allclose(samples, whole / 32768, atol=1e-6)


def test_an_empty_recording_with_remarks_after_it_is_not_taken_for_a_stream(tmp_path: Path) -> None:
    remark = b"LIST" + (64).to_bytes(4, "little") + b"INFO" + b"x" * 60
    content = wav_bytes(np.zeros(0, np.int16)) + remark
    (tmp_path / "a.wav").write_bytes(content[:4] + (len(content) - 8).to_bytes(4, "little") + content[8:])
    with pytest.raises(MediaError, match="holds no samples"):
        read_sound(tmp_path / "a.wav", LIMITS)


def test_a_header_that_promises_less_than_there_is_gives_what_it_promises(tmp_path: Path) -> None:
    whole = (sound_samples(1.0) * 32767).astype(np.int16)
    (tmp_path / "a.wav").write_bytes(wav_bytes(whole, data_bytes=RATE))
    assert read_sound(tmp_path / "a.wav", LIMITS)[1] == 0.5


def test_a_wav_that_lacks_part_of_its_last_frame_only_is_read(tmp_path: Path) -> None:
    whole = (sound_samples(1.0) * 32767).astype(np.int16)
    (tmp_path / "a.wav").write_bytes(wav_bytes(whole)[:-1])
    assert read_sound(tmp_path / "a.wav", LIMITS)[1] == pytest.approx(1.0, abs=0.001)
    (tmp_path / "a.wav").write_bytes(wav_bytes(whole)[:-3])
    with pytest.raises(MediaError, match="is cut short: 3 bytes of 32,044 are missing"):
        read_sound(tmp_path / "a.wav", LIMITS)


@pytest.mark.parametrize(
    ("name", "format", "subtype"),
    [
        ("a.wav", "WAV", "PCM_16"),
        ("a.wav", "WAVEX", "PCM_16"),
        ("a.w64", "W64", "PCM_16"),
        ("a.aiff", "AIFF", "PCM_16"),
        ("a.au", "AU", "PCM_16"),
        ("a.caf", "CAF", "PCM_16"),
        ("a.flac", "FLAC", "PCM_16"),
        ("a.mp3", "MP3", "MPEG_LAYER_III"),
    ],
)
def test_no_sound_that_is_cut_anywhere_is_given_back(tmp_path: Path, name: str, format: str, subtype: str) -> None:
    whole = sound_bytes(format, subtype, seconds=4.0)
    for share in (0.1, 0.5, 0.9, 0.97):
        (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(MediaError):
            read_sound(tmp_path / name, LIMITS)


@pytest.mark.parametrize("index", ["first", "last"])
def test_an_m4a_that_is_cut_short_is_refused_wherever_its_index_is(tmp_path: Path, index: str) -> None:
    options = {"movflags": "faststart"} if index == "first" else {}
    path = encoded(tmp_path / "a.m4a", "aac", "ipod", seconds=20, options=options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(MediaError, match="cut short"):
        read_sound(path, LIMITS)


def test_damage_in_the_file_is_not_printed_but_raised(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for format, subtype in (("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("FLAC", "PCM_16")):
        whole = sound_bytes(format, subtype, seconds=2.0)
        (tmp_path / "a.mp3").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(MediaError):
            read_sound(tmp_path / "a.mp3", LIMITS)
    assert capfd.readouterr() == ("", "")


def test_a_sound_over_the_limit_is_refused_with_the_flag(tmp_path: Path) -> None:
    (tmp_path / "a.flac").write_bytes(sound_bytes("FLAC", "PCM_16", seconds=60))
    with pytest.raises(MediaError, match=r"0\.02 h is over the 0\.01 h limit; raise --max-audio-hours or cut it"):
        read_sound(tmp_path / "a.flac", MediaLimits(max_audio_hours=0.01))
    with pytest.raises(MediaError, match=r"MB is over the 0\.1 MB limit; raise --max-file-mb"):
        read_sound(tmp_path / "a.flac", MediaLimits(max_file_mb=0.1))


def test_a_playlist_behind_a_sounds_name_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "secret.wav").write_bytes(sound_bytes())
    for name, content in (
        ("a.m4a", f"#EXTM3U\n#EXTINF:1,\n{tmp_path}/secret.wav\n"),
        ("a.wma", f"ffconcat version 1.0\nfile {tmp_path}/secret.wav\n"),
        ("a.mp3", f"[playlist]\nFile1={tmp_path}/secret.wav\n"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(MediaError, match="is text, not a sound"):
            read_sound(tmp_path / name, LIMITS)


def test_windows_overlap_and_reach_the_end() -> None:
    samples = np.arange(26 * RATE, dtype=np.float32)
    windows = sound_windows(samples, LIMITS)
    assert [(start, end) for start, end, _ in windows] == [(0, 10), (8, 18), (16, 26)]
    for start, end, window in windows:
        np.testing.assert_array_equal(window, samples[int(start * RATE) : int(end * RATE)])
        assert np.shares_memory(window, samples)


@pytest.mark.parametrize(
    ("seconds", "spans"),
    [
        (0.1, [(0, 0.1)]),
        (10, [(0, 10)]),
        (10.9, [(0, 10), (0.9, 10.9)]),
        (11, [(0, 10), (8, 11)]),
        (18.5, [(0, 10), (8, 18), (8.5, 18.5)]),
        (20, [(0, 10), (8, 18), (16, 20)]),
    ],
)
def test_a_short_tail_gets_a_whole_window_up_to_the_end(seconds: float, spans: list[tuple[float, float]]) -> None:
    found = sound_windows(np.zeros(round(seconds * RATE), np.float32), LIMITS)
    assert [(pytest.approx(start), pytest.approx(end)) for start, end, _ in found] == spans


def test_windows_cover_everything_for_any_length_and_any_limits() -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        limits = MediaLimits(window_s=generator.uniform(0.5, 12), hop_s=generator.uniform(0.1, 15))
        total = int(generator.integers(1, 60 * RATE))
        windows = sound_windows(np.zeros(total, np.float32), limits)
        assert windows[0][0] == 0 and windows[-1][1] == total / RATE
        for before, after in pairwise(windows):
            assert before[0] < after[0] <= before[1] < after[1]
        assert all(len(window) <= limits.window_s * RATE + 1 for _, _, window in windows)


def test_decoding_gives_a_segment_a_window_and_the_duration(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(sound_bytes(seconds=12))
    decoded = decode(Item(str(path), Modality.AUDIO, path), LIMITS)
    assert [(s.segment.ordinal, s.segment.start_s, s.segment.end_s) for s in decoded.segments] == [
        (0, 0.0, 10.0),
        (1, 8.0, 12.0),
    ]
    assert decoded.facts == {"duration_s": 12.0}


def test_sounds_are_the_same_from_many_threads_at_once(tmp_path: Path) -> None:
    paths = [encoded(tmp_path / "a.m4a", "aac", "ipod")]
    for name, format, subtype in (("b.mp3", "MP3", "MPEG_LAYER_III"), ("c.flac", "FLAC", "PCM_16")):
        paths.append(tmp_path / name)
        paths[-1].write_bytes(sound_bytes(format, subtype, rate_hz=44_100))
    alone = [read_sound(path, LIMITS)[0] for path in paths]
    wrong: list[Path] = []

    def read_all() -> None:
        for _ in range(3):
            for path, samples in zip(paths, alone, strict=True):
                if not np.array_equal(read_sound(path, LIMITS)[0], samples):
                    wrong.append(path)

    threads = [threading.Thread(target=read_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
