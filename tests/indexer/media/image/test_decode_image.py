"""indexer/media/image/decode.py and indexer/media/image/svg.py: every format to upright RGB, within limits."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from bad_files import picture_bytes, png_bomb, svg_bytes
from paths import ROOT
from PIL import Image, ImageCms

import indexer.media.image.svg
from indexer.encoders.fitting import fit_on_white
from indexer.errors import MediaError
from indexer.items import Item, Modality
from indexer.limits import MediaLimits
from indexer.media.decode import decode
from indexer.media.image.decode import MAX_SIDE_PX, open_picture, read_picture

LIMITS = MediaLimits()
RED, GREEN, BLUE, GREY = (250, 10, 10), (10, 250, 10), (10, 10, 250), (128, 128, 128)


def corners(size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Red top left, green top right, blue bottom left, grey bottom right."""
    picture = Image.new("RGB", size, GREY)
    half = (size[0] // 2, size[1] // 2)
    picture.paste(RED, (0, 0, *half))
    picture.paste(GREEN, (half[0], 0, size[0], half[1]))
    picture.paste(BLUE, (0, half[1], half[0], size[1]))
    return picture


def looks_right(picture: Image.Image, tolerance: int = 40) -> bool:
    width, height = picture.size
    wanted = {(0.25, 0.25): RED, (0.75, 0.25): GREEN, (0.25, 0.75): BLUE, (0.75, 0.75): GREY}
    pixels = np.asarray(picture, dtype=int)
    return picture.mode == "RGB" and all(
        np.abs(pixels[int(y * height), int(x * width)] - colour).max() <= tolerance for (x, y), colour in wanted.items()
    )


def saved(folder: Path, name: str, picture: Image.Image, **options: object) -> Path:
    path = folder / name
    picture.save(path, **options)
    return path


def photo(size: tuple[int, int]) -> Image.Image:
    """Smooth colours with fine grain, as a camera gives them."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    grain = rng.normal(0, 8, (size[1], size[0], 1))
    return Image.fromarray(np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    ("name", "size", "wanted"),
    [
        ("a.jpg", (2000, 1500), (1000, 750)),  # decoded at a half: a quarter would be coarser than 2 * 224
        ("a.png", (2400, 1800), (896, 672)),
        ("a.png", (1800, 2400), (672, 896)),
        ("a.png", (2000, 1500), (2000, 1500)),
        ("a.jpg", (640, 480), (640, 480)),
        ("a.png", (1100, 800), (1100, 800)),
        ("a.png", (5000, 500), (2048, 205)),  # a strip: its long side may not be longer
    ],
)
def test_a_picture_is_decoded_as_finely_as_the_model_looks(
    tmp_path: Path, name: str, size: tuple[int, int], wanted: tuple[int, int]
) -> None:
    path = saved(tmp_path, name, photo(size))
    picture = open_picture(path, MediaLimits(picture_px=224))
    assert picture.image.size == wanted
    assert (picture.width_px, picture.height_px) == size


@pytest.mark.parametrize(("name", "tolerance"), [("a.jpg", 1.0), ("a.png", 1.0)])
def test_what_the_tower_sees_is_the_same_as_of_the_whole_picture(tmp_path: Path, name: str, tolerance: float) -> None:
    path = saved(tmp_path, name, photo((2000, 1500)))
    seen, whole = (
        fit_on_white(open_picture(path, limits).image, 224).astype(float)
        for limits in (MediaLimits(picture_px=224), LIMITS)
    )
    assert np.abs(seen - whole).mean() < tolerance  # of 255


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jpg", {}),
        ("a.jpg", {"progressive": True}),
        ("a.png", {}),
        ("a.webp", {}),
        ("a.webp", {"lossless": True}),
        ("a.gif", {}),
        ("a.bmp", {}),
        ("a.tif", {}),
        ("a.tif", {"compression": "tiff_lzw"}),
        ("a.tif", {"compression": "tiff_adobe_deflate"}),
        ("a.tif", {"big_tiff": True}),
        ("a.ppm", {}),
        ("a.ico", {}),
        ("a.ico", {"bitmap_format": "bmp"}),
        ("a.avif", {}),
    ],
)
def test_every_format_is_read_as_rgb(tmp_path: Path, name: str, options: dict[str, object]) -> None:
    path = saved(tmp_path, name, corners(), **options)
    picture = open_picture(path, LIMITS)
    assert looks_right(picture.image)
    assert (picture.width_px, picture.height_px) == picture.image.size


def test_heic_is_read_and_turned_upright(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(corners()).save(tmp_path / "a.heic")
    assert looks_right(read_picture(tmp_path / "a.heic", LIMITS))


def test_heic_without_its_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))
    monkeypatch.setitem(sys.modules, "pillow_heif.as_plugin", None)
    with pytest.raises(MediaError, match=r"HEIC needs an extra package: pip install 'trimodal\[heic\]'"):
        read_picture(tmp_path / "a.heic", LIMITS)


def test_the_content_decides_not_the_suffix(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes((saved(tmp_path, "b.png", corners())).read_bytes())
    assert looks_right(read_picture(tmp_path / "a.jpg", LIMITS))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, name: str) -> None:
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transposition that undoes each orientation's
    turned = corners() if orientation == 1 else corners().transpose(Image.Transpose(back[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = open_picture(saved(tmp_path, name, turned, exif=exif), LIMITS)
    assert looks_right(picture.image)
    assert picture.image.size == (picture.width_px, picture.height_px) == (64, 48)


def test_the_time_it_was_taken_is_kept_as_iso(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0132] = "2022:02:02 02:02:02"
    assert open_picture(saved(tmp_path, "a.jpg", corners(), exif=exif), LIMITS).taken_at == "2022-02-02T02:02:02"
    exif.get_ifd(0x8769).update({0x9003: "2021:05:01 12:34:56", 0x9011: "+02:00"})
    path = saved(tmp_path, "b.jpg", corners(), exif=exif)
    assert open_picture(path, LIMITS).taken_at == "2021-05-01T12:34:56+02:00"
    facts = decode(Item(str(path), Modality.IMAGE, path), LIMITS).facts
    assert facts == {"width_px": 64, "height_px": 48, "taken_at": "2021-05-01T12:34:56+02:00"}


@pytest.mark.parametrize("said", ["0000:00:00 00:00:00", "yesterday", "", "2021:13:45 99:00:00"])
def test_a_time_that_is_none_is_left_out(tmp_path: Path, said: str) -> None:
    exif = Image.Exif()
    exif[0x0132] = said
    assert open_picture(saved(tmp_path, "a.jpg", corners(), exif=exif), LIMITS).taken_at is None


def test_a_damaged_exif_block_harms_no_picture(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.jpg", corners(), exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\xff" * 40)
    assert looks_right(read_picture(path, LIMITS))


def test_transparency_is_shown_on_white(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    half = Image.new("LA", (8, 8), (0, 128))
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    assert read_picture(saved(tmp_path, "a.png", clear), LIMITS).getpixel((4, 4)) == (255, 255, 255)
    assert read_picture(saved(tmp_path, "b.png", half), LIMITS).getpixel((4, 4)) == (127, 127, 127)
    assert read_picture(saved(tmp_path, "c.png", palette, transparency=0), LIMITS).getpixel((4, 4)) == (255, 255, 255)
    assert read_picture(saved(tmp_path, "d.webp", clear, lossless=True), LIMITS).getpixel((4, 4)) == (255, 255, 255)


def test_sixteen_bits_become_eight_and_keep_their_brightness(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    for name in ("a.png", "a.tif"):
        pixels = np.asarray(read_picture(saved(tmp_path, name, Image.fromarray(ramp)), LIMITS))
        assert np.abs(pixels[..., 0].astype(int) - ramp // 257).max() <= 1


def test_pictures_of_floats_are_shown_by_their_range(tmp_path: Path) -> None:
    ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    for scale, shift in ((1, 0), (255, 0), (5000, -2500)):
        values = ramp * scale + shift
        pixels = np.asarray(read_picture(saved(tmp_path, "a.tif", Image.fromarray(values)), LIMITS))
        assert np.abs(pixels[..., 0].astype(int) - np.rint(ramp * 255)).max() <= 1
    values = ramp.copy()
    values[0, 0] = np.nan
    read_picture(saved(tmp_path, "b.tif", Image.fromarray(values)), LIMITS)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
def test_other_colours_become_rgb(tmp_path: Path, mode: str) -> None:
    name = "a.jpg" if mode in ("CMYK", "YCbCr") else "a.png"
    picture = read_picture(saved(tmp_path, name, Image.new("RGB", (16, 16), "white").convert(mode)), LIMITS)
    assert picture.mode == "RGB"
    assert min(picture.getpixel((8, 8))) > 250


def test_colour_profiles_and_comments_do_no_harm(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert looks_right(read_picture(saved(tmp_path, "a.png", corners(), icc_profile=profile), LIMITS))


def test_the_first_frame_of_an_animation_is_the_picture(tmp_path: Path) -> None:
    for name in ("a.gif", "a.webp", "a.png", "a.tif"):
        other = Image.new("RGB", (64, 48), "black")
        path = saved(tmp_path, name, corners(), save_all=True, append_images=[other])
        assert looks_right(read_picture(path, LIMITS))


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_a_large_picture_is_given_back_small_with_its_true_size(tmp_path: Path, name: str) -> None:
    picture = open_picture(saved(tmp_path, name, corners((6000, 3000))), LIMITS)
    assert picture.image.size == (MAX_SIDE_PX, MAX_SIDE_PX // 2)
    assert (picture.width_px, picture.height_px) == (6000, 3000)
    assert looks_right(picture.image)


def test_a_picture_of_the_largest_size_kept_is_not_resampled(tmp_path: Path) -> None:
    noise = Image.open(io.BytesIO(picture_bytes("PNG", size=(MAX_SIDE_PX, 3))))
    assert read_picture(saved(tmp_path, "a.png", noise), LIMITS).tobytes() == noise.tobytes()


def test_a_very_long_strip_keeps_at_least_a_pixel(tmp_path: Path) -> None:
    assert read_picture(saved(tmp_path, "a.png", Image.new("L", (50_000, 1))), LIMITS).size == (MAX_SIDE_PX, 1)


def test_the_limit_on_pixels_can_be_lowered_and_raised(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.png", corners())
    with pytest.raises(MediaError, match=r"a\.png: 0 MP \(64 x 48\) is over the 0\.001 MP limit; raise --max-meg"):
        read_picture(path, MediaLimits(max_megapixels=0.001))
    large = saved(tmp_path, "b.png", Image.new("1", (20_000, 10_000)))
    with pytest.raises(MediaError, match="200 MP"):
        read_picture(large, LIMITS)
    assert open_picture(large, MediaLimits(max_megapixels=201)).width_px == 20_000


def test_a_bomb_is_refused_before_anything_of_its_size_is_allocated(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png_bomb())
    # In a process of its own with little memory to have: 900 MP would take 900 MB at the least.
    program = """
import resource, sys
from pathlib import Path
from indexer.limits import MediaLimits
from indexer.media.image.decode import read_picture
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 100_000_000,) * 2)
try:
    read_picture(Path(sys.argv[1]), MediaLimits())
except Exception as error:
    print(error)
"""
    if not Path("/proc/self/statm").exists():
        pytest.skip("reads its memory from /proc")
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "bomb.png"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert done.stdout.endswith("900 MP (30,000 x 30,000) is over the 179 MP limit; raise --max-megapixels\n")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF"])
def test_no_picture_that_is_cut_anywhere_is_given_back(tmp_path: Path, format: str) -> None:
    whole = picture_bytes(format)
    path = tmp_path / "cut"
    for share in (0.02, 0.2, 0.5, 0.8, 0.95, 0.99):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(MediaError):
            read_picture(path, LIMITS)


def test_a_progressive_jpeg_that_lacks_its_last_scans_is_refused(tmp_path: Path) -> None:
    whole = picture_bytes("JPEG", progressive=True)
    (tmp_path / "a.jpg").write_bytes(whole[: whole.rindex(b"\xff\xda")])
    with pytest.raises(MediaError, match="is cut short: its end is missing"):
        read_picture(tmp_path / "a.jpg", LIMITS)


def test_a_png_with_one_wrong_bit_is_refused(tmp_path: Path) -> None:
    damaged = bytearray(picture_bytes("PNG"))
    damaged[damaged.index(b"IDAT") + 2000] ^= 1
    (tmp_path / "a.png").write_bytes(damaged)
    with pytest.raises(MediaError, match=r"is damaged \(chunk IDAT fails its checksum\)"):
        read_picture(tmp_path / "a.png", LIMITS)


def test_pictures_are_the_same_from_many_threads_at_once(tmp_path: Path) -> None:
    paths = [saved(tmp_path, f"{n}.jpg", Image.open(io.BytesIO(picture_bytes("PNG", seed=n)))) for n in range(4)]
    alone = [read_picture(path, LIMITS).tobytes() for path in paths]
    wrong: list[int] = []

    def read_all() -> None:
        for _ in range(5):
            for n, path in enumerate(paths):
                if read_picture(path, LIMITS).tobytes() != alone[n]:
                    wrong.append(n)

    threads = [threading.Thread(target=read_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


class TestDrawings:
    """SVG, with the package that draws it."""

    @pytest.fixture(autouse=True)
    def _renderer(self) -> None:
        pytest.importorskip("resvg_py")

    @staticmethod
    def draw(folder: Path, source: bytes) -> Image.Image:
        (folder / "a.svg").write_bytes(source)
        return read_picture(folder / "a.svg", LIMITS)

    def test_a_drawing_is_drawn_on_white_at_one_size(self, tmp_path: Path) -> None:
        picture = self.draw(tmp_path, svg_bytes('<rect width="20" height="30" fill="#ff0000"/>'))
        assert (picture.mode, picture.size) == ("RGB", (1024, 768))
        assert picture.getpixel((10, 400)) == (255, 0, 0)
        assert picture.getpixel((1000, 400)) == (255, 255, 255)

    @pytest.mark.parametrize(
        ("size", "drawn"),
        [
            ('width="1e9" height="5e8"', (1024, 512)),
            ('width="100mm" height="400mm"', (256, 1024)),
            ('viewBox="0 0 300 600"', (512, 1024)),
            ('viewBox="0,0,600,300" width="100%"', (1024, 512)),
            ('width="2in" height="96px"', (1024, 512)),
        ],
    )
    def test_its_stated_size_gives_the_shape_only(self, tmp_path: Path, size: str, drawn: tuple[int, int]) -> None:
        assert self.draw(tmp_path, svg_bytes("<rect/>", size=size)).size == drawn

    def test_sixteen_bit_unicode_and_harmless_entities_are_read(self, tmp_path: Path) -> None:
        body = '<rect width="40" height="30" fill="&red;"/>'
        source = svg_bytes(body, head='<!DOCTYPE svg [<!ENTITY red "#ff0000">]>')
        assert self.draw(tmp_path, source).getpixel((5, 5)) == (255, 0, 0)
        assert self.draw(tmp_path, source.decode().encode("utf-16")).getpixel((5, 5)) == (255, 0, 0)

    def test_an_embedded_picture_is_drawn(self, tmp_path: Path) -> None:
        file = io.BytesIO()
        Image.new("RGB", (8, 6), (0, 0, 255)).save(file, "PNG")
        address = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
        picture = self.draw(tmp_path, svg_bytes(f'<image href="{address}" width="40" height="30"/>'))
        assert picture.getpixel((500, 400)) == (0, 0, 255)

    def test_a_file_beside_it_is_not_opened(self, tmp_path: Path) -> None:
        (tmp_path / "b.png").write_bytes(picture_bytes("PNG"))
        for address in ("b.png", str(tmp_path / "b.png"), f"file://{tmp_path}/b.png", "http://127.0.0.1:9/b.png"):
            for name in ("href", "xlink:href"):
                with pytest.raises(MediaError, match=r"takes in another file \(.*b\.png\), which is not opened"):
                    self.draw(tmp_path, svg_bytes(f'<image {name}="{address}" width="40" height="30"/>'))

    def test_a_link_for_clicking_is_no_other_file(self, tmp_path: Path) -> None:
        self.draw(tmp_path, svg_bytes('<a xlink:href="https://example.org"><rect width="9" height="9"/></a>'))

    def test_a_drawing_that_takes_too_long_is_given_up(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(indexer.media.image.svg, "DRAW_LIMIT_S", 1)
        noise = '<filter id="f"><feTurbulence numOctaves="100000000" baseFrequency="0.7"/></filter>'
        with pytest.raises(MediaError, match="cannot be drawn within 1 s and 1 GB; export it as PNG"):
            self.draw(tmp_path, svg_bytes(noise + '<rect width="40" height="30" filter="url(#f)"/>'))

    def test_a_drawing_that_overruns_the_renderers_stack_takes_nothing_with_it(self, tmp_path: Path) -> None:
        nested = '<g opacity="0.5">' * 490 + '<rect width="9" height="9"/>' + "</g>" * 490
        try:
            self.draw(tmp_path, svg_bytes(nested))
        except MediaError as error:
            assert "is an SVG that cannot be drawn" in str(error)

    def test_without_its_package_the_extra_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(MediaError, match=r"SVG needs an extra package: pip install 'trimodal\[svg\]'"):
            self.draw(tmp_path, svg_bytes("<rect/>"))
