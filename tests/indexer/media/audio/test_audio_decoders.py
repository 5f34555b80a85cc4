"""One decoder after another, tags around a sound, several sounds in one file: indexer/media/audio."""

from __future__ import annotations

import re
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from indexer.errors import MediaError
from indexer.items import Samples
from indexer.limits import SAMPLE_RATE_HZ, MediaLimits
from indexer.media.audio.decode import open_sound, read_sound

LIMITS = MediaLimits()
CONTAINERS = {"wav": "wav", "bw64": "wav", "w64": "w64", "aiff": "aiff", "caf": "caf", "au": "au"}


def sweep(seconds: float, rate_hz: int) -> Samples:
    """A tone that rises from 300 Hz, float32 ``(n,)``: another one at every moment."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    return np.asarray(0.4 * np.sin(2 * np.pi * (300 + 400 * t / seconds) * t), dtype=np.float32)


def encode(path: Path, codec: str, container: str, samples: Samples, rate_hz: int) -> None:
    """Write mono samples by FFmpeg."""
    options = {"rf64": "always"} if path.suffix == ".bw64" else {}
    with av.open(str(path), "w", format=container, options=options) as file:
        stream = file.add_stream(codec, rate=rate_hz, layout="mono")
        stream.codec_context.format = (stream.codec_context.codec.audio_formats or [av.AudioFormat("fltp")])[0].name
        stream.codec_context.open()
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = rate_hz, 0
        fit = av.AudioResampler(
            stream.codec_context.format, stream.layout, rate_hz, stream.codec_context.frame_size or None
        )
        for part in [*fit.resample(frame), *fit.resample(None), None]:
            for packet in stream.encode(part):
                if packet.size:
                    file.mux(packet)
    if path.suffix == ".bw64":
        path.write_bytes(b"BW64" + path.read_bytes()[4:])


def by_ffmpeg_alone(path: Path) -> NDArray[np.float64]:
    with av.open(str(path)) as file:
        fit = av.AudioResampler("fltp", "mono", SAMPLE_RATE_HZ)
        frames = [*file.decode(file.streams.audio[0]), None]
        return np.concatenate([part.to_ndarray()[0] for frame in frames for part in fit.resample(frame)]).astype(float)


def likeness(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """The correlation at the best shift."""
    size = 1 << (len(one) + len(other)).bit_length()
    both = np.fft.irfft(np.fft.rfft(one, size) * np.conj(np.fft.rfft(other, size)), size)
    return float(np.abs(both).max() / (np.linalg.norm(one) * np.linalg.norm(other)))


@pytest.mark.parametrize(
    "pairs",
    [
        "g722: wav bw64 w64",
        "flac: wav bw64 w64 caf",
        "adpcm_ms: wav bw64 w64 caf",
        "adpcm_ima_wav: wav bw64 w64 caf",
        "adpcm_yamaha: wav bw64 w64",
        "mp2: wav bw64 w64 caf",
        "mp3: wav bw64 w64 caf",
        "alac: caf",
        "pcm_s24be: aiff caf au",
        "pcm_f32le: wav bw64 w64 caf",
        "pcm_mulaw: wav bw64 w64 aiff caf au",
        "adpcm_g726: wav bw64 w64",
        "adpcm_ima_qt: aiff caf",
    ],
)
def test_a_codec_in_any_container_sounds_as_ffmpeg_alone_decodes_it(tmp_path: Path, pairs: str) -> None:
    codec, containers = pairs.split(": ")
    rate_hz = 8_000 if "g726" in codec else 16_000
    for container in containers.split():
        for seconds in (0.2, 1.0):
            path = tmp_path / f"{seconds}.{container}"
            encode(path, codec, CONTAINERS[container], sweep(seconds, rate_hz), rate_hz)
            if container == "bw64":
                path = path.rename(path.with_suffix(".wav"))
            expected = by_ffmpeg_alone(path)
            samples, duration_s = read_sound(path, LIMITS)
            assert likeness(samples, expected) > 0.99, path.name
            assert duration_s == pytest.approx(len(expected) / SAMPLE_RATE_HZ, abs=0.1), path.name


def test_a_long_sound_of_the_second_decoder_is_the_same_in_both_passes(tmp_path: Path) -> None:
    encode(tmp_path / "a.wav", "g722", "wav", sweep(25.0, 16_000), 16_000)
    kept = list(open_sound(tmp_path / "a.wav", LIMITS).windows)
    again = list(open_sound(tmp_path / "a.wav", LIMITS, keep_s=1.0).windows)
    assert [one[:2] for one in kept] == [one[:2] for one in again]
    assert all(np.array_equal(one[2], other[2]) for one, other in zip(kept, again, strict=True))


def test_mp3_in_a_wav_is_read_whole_and_its_padding_is_not_missed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    encode(tmp_path / "a.wav", "mp3", "wav", sweep(1.0, 48_000), 48_000)
    assert read_sound(tmp_path / "a.wav", LIMITS)[1] == pytest.approx(1.0, abs=0.1)
    raw = bytearray((tmp_path / "a.wav").read_bytes())
    raw[3000:6000:7] = bytes(len(raw[3000:6000:7]))
    (tmp_path / "bad.wav").write_bytes(raw)
    with pytest.raises(MediaError, match="damaged"):
        read_sound(tmp_path / "bad.wav", LIMITS)
    assert capfd.readouterr() == ("", "")


def tone(path: Path, seconds: float, rate_hz: int = 16_000, hz: int = 1000) -> bytes:
    """A file of the format that the suffix stands for."""
    wave = 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)
    if path.suffix in (".aac", ".ac3"):
        encode(path, path.suffix[1:], {"aac": "adts"}.get(path.suffix[1:], "ac3"), wave.astype(np.float32), rate_hz)
    elif path.suffix == ".opus":
        soundfile.write(path, wave, rate_hz, format="OGG", subtype="OPUS")
    else:
        soundfile.write(path, wave, rate_hz)
    return path.read_bytes()


def id3(content: bytes, *, footer: bool = False, states: int | None = None) -> bytes:
    """An ID3v2.4 tag; ``states``: another size than it has."""
    length = len(content) if states is None else states
    size = bytes(length >> shift & 0x7F for shift in (21, 14, 7, 0))
    flags = b"\x10" if footer else b"\0"
    return b"ID3\x04\0" + flags + size + content + (b"3DI\x04\0" + flags + size if footer else b"")


def ape(content: bytes) -> bytes:
    ends = [
        b"APETAGEX" + b"".join(n.to_bytes(4, "little") for n in (2000, len(content) + 32, 1, flags, 0, 0))
        for flags in (0xA000_0000, 0x8000_0000)
    ]
    return ends[0] + content + ends[1]


LEADING = {
    "a tag": id3(bytes(500)),
    "a large tag": id3(b"\x01" * 300_000),
    "a tag with a footer": id3(bytes(300), footer=True),
    "two tags": id3(bytes(300)) + id3(bytes(20_000)),
    "an APE tag": ape(b"x" * 100),
    "a tag and zeros": id3(bytes(100)) + bytes(3000),
    "a tag that states too little": id3(bytes(300), states=250),
    "zeros": bytes(5000),
}
TRAILING = {
    "ID3v1": b"TAG" + b"a" * 125,
    "APE": ape(b"x" * 200),
    "APE and ID3v1": ape(b"x" * 200) + b"TAG" + b"a" * 125,
    "Lyrics3 and ID3v1": b"LYRICSBEGIN" + b"x" * 50 + b"000061LYRICS200" + b"TAG" + b"a" * 125,
}


@pytest.mark.parametrize("suffix", ["flac", "aac", "wav", "ogg", "aiff", "ac3", "w64", "caf", "au", "opus"])
def test_a_tag_before_or_behind_a_sound_of_any_kind_is_passed_over(tmp_path: Path, suffix: str) -> None:
    rate_hz = 48_000 if suffix == "ac3" else 16_000
    plain = tone(tmp_path / f"plain.{suffix}", 1.0, rate_hz)
    expected, _ = read_sound(tmp_path / f"plain.{suffix}", LIMITS)
    cases = {name: tag + plain for name, tag in LEADING.items()} | {n: plain + tag for n, tag in TRAILING.items()}
    for name, content in cases.items():
        (tmp_path / f"tagged.{suffix}").write_bytes(content)
        samples, _ = read_sound(tmp_path / f"tagged.{suffix}", LIMITS)
        assert np.array_equal(samples, expected), name


def test_an_mp3_keeps_its_tags_and_gives_the_same_samples(tmp_path: Path) -> None:
    plain = tone(tmp_path / "a.mp3", 1.0)
    (tmp_path / "b.mp3").write_bytes(id3(bytes(500)) + plain)
    assert np.array_equal(read_sound(tmp_path / "a.mp3", LIMITS)[0], read_sound(tmp_path / "b.mp3", LIMITS)[0])


@pytest.mark.parametrize("suffix", ["flac", "wav", "ogg"])
def test_behind_a_tag_whose_size_leads_out_of_the_file_the_sounds_own_mark_is_found(
    tmp_path: Path, suffix: str
) -> None:
    plain = tone(tmp_path / f"a.{suffix}", 1.0)
    (tmp_path / f"b.{suffix}").write_bytes(id3(bytes(300), states=200_000_000) + plain)
    assert read_sound(tmp_path / f"b.{suffix}", LIMITS)[1] == 1.0


def test_tags_without_a_sound_are_one_sentence(tmp_path: Path) -> None:
    for content in (id3(b"") * 100_000, id3(bytes(100)), ape(b"x") * 100, bytes(2_000_000)):
        (tmp_path / "a.flac").write_bytes(content)
        with pytest.raises(MediaError, match=r"a\.flac"):
            read_sound(tmp_path / "a.flac", LIMITS)


@pytest.mark.parametrize("suffix", ["ogg", "opus", "flac", "wav", "aiff", "w64", "caf", "au"])
def test_all_sounds_of_a_joined_file_are_read(tmp_path: Path, suffix: str) -> None:
    one, other = tone(tmp_path / f"a.{suffix}", 3.0, hz=500), tone(tmp_path / f"b.{suffix}", 20.0, hz=2000)
    rate_hz = 48_000 if suffix == "opus" else 44_100
    third = tone(tmp_path / f"c.{suffix}", 2.0, rate_hz, hz=4000)
    parts = [read_sound(tmp_path / f"{name}.{suffix}", LIMITS)[0] for name in "abc"]
    (tmp_path / f"all.{suffix}").write_bytes(one + other + third)
    samples, duration_s = read_sound(tmp_path / f"all.{suffix}", LIMITS)
    assert duration_s == pytest.approx(25.0, abs=0.01)
    assert np.array_equal(samples, np.concatenate(parts))


def test_joined_mp3_is_read_or_its_change_of_rate_is_named(tmp_path: Path) -> None:
    one, other = tone(tmp_path / "a.mp3", 3.0), tone(tmp_path / "b.mp3", 5.0)
    (tmp_path / "c.mp3").write_bytes(one + other)
    assert read_sound(tmp_path / "c.mp3", LIMITS)[1] == pytest.approx(8.0, abs=0.2)
    (tmp_path / "c.mp3").write_bytes(one + tone(tmp_path / "b.mp3", 5.0, 44_100))
    with pytest.raises(MediaError, match="changes its sample rate midway"):
        read_sound(tmp_path / "c.mp3", LIMITS)


def test_the_limit_on_hours_is_of_all_sounds_of_a_joined_file(tmp_path: Path) -> None:
    (tmp_path / "a.ogg").write_bytes(tone(tmp_path / "b.ogg", 4.0) * 3)
    with pytest.raises(MediaError, match=re.escape("over the 0.002 h limit")):
        read_sound(tmp_path / "a.ogg", MediaLimits(max_audio_hours=0.002))


def test_a_flac_that_was_written_into_a_pipe_states_no_length_and_is_read_whole(tmp_path: Path) -> None:
    raw = bytearray(tone(tmp_path / "a.flac", 3.0))
    raw[21] &= 0xF0
    raw[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(raw)
    assert read_sound(tmp_path / "a.flac", LIMITS)[1] == 3.0


@pytest.mark.parametrize("states", [0, 1000, 10**15])
def test_a_last_ogg_page_that_states_a_wrong_length_costs_no_sound(tmp_path: Path, states: int) -> None:
    raw = tone(tmp_path / "a.ogg", 3.0, 48_000)
    at = raw.rfind(b"OggS")
    page = bytearray(raw[at:])
    page[6:14], page[22:26] = states.to_bytes(8, "little"), bytes(4)
    page[22:26] = _ogg_checksum(page).to_bytes(4, "little")
    (tmp_path / "a.ogg").write_bytes(raw[:at] + page)
    assert read_sound(tmp_path / "a.ogg", LIMITS)[1] == pytest.approx(3.0, abs=0.1)


def test_a_list_of_edits_that_leaves_nothing_is_passed_over(tmp_path: Path) -> None:
    encode(tmp_path / "a.m4a", "aac", "ipod", sweep(3.0, 16_000), 16_000)
    raw = bytearray((tmp_path / "a.m4a").read_bytes())
    at = raw.find(b"elst")
    raw[at + 12 : at + 16] = bytes(4)
    (tmp_path / "a.m4a").write_bytes(raw)
    assert read_sound(tmp_path / "a.m4a", LIMITS)[1] == pytest.approx(3.0, abs=0.2)


def _ogg_checksum(page: bytes) -> int:
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x8000_0000 else 0)) & 0xFFFF_FFFF
    return crc
