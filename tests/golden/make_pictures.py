#!/usr/bin/python3
"""Writes small pictures of every kind that picture_read takes, and beside each what Pillow makes of
it: NAME.EXT and NAME.EXT.rgb.ppm (binary, maximum 255). Resized ones are IN.to_WxH.ppm.

    /usr/bin/python3 tests/golden/make_pictures.py tests/golden/pictures

Made with Pillow 9.4.0 and numpy 1.24.2. Pillow cannot write every PNG (interlacing, 16 bits a
colour), so the PNGs are put together here from their chunks.
"""
import os
import struct
import sys
import zlib

import numpy as np
from PIL import Image

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def pack_rows(samples, depth):
    """Rows of samples [H, W, channels], each with filter byte 0 in front."""
    out = b""
    for row in samples:
        flat = row.reshape(-1)
        if depth == 16:
            data = flat.astype(">u2").tobytes()
        elif depth == 8:
            data = flat.astype(np.uint8).tobytes()
        else:
            bits = (flat[:, None] >> np.arange(depth - 1, -1, -1)) & 1
            data = np.packbits(bits.astype(np.uint8).reshape(-1)).tobytes()
        out += b"\0" + data
    return out


def png(samples, depth, colour, interlaced=False, palette=None, transparency=None):
    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    if interlaced:
        passes = [samples[y::dy, x::dx] for x, y, dx, dy in ADAM7]
        data = b"".join(pack_rows(p, depth) for p in passes if p.size)
    else:
        data = pack_rows(samples, depth)
    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    if palette is not None:
        out += chunk(b"PLTE", palette.astype(np.uint8).tobytes())
    if transparency is not None:
        out += chunk(b"tRNS", transparency)
    return out + chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b"")


def bmp(rows, bits, palette=b"", header_bytes=40, masks=(), gap=0, from_top=False):
    """Of rows of packed pixels, each a multiple of 4 bytes. masks: of red, green and blue."""
    height, row_bytes = rows.shape
    width = row_bytes * 8 // bits
    if header_bytes == 12:
        header = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        header = struct.pack("<IiiHHIIiiII", header_bytes, width, -height if from_top else height, 1, bits,
                             3 if masks else 0, height * row_bytes, 0, 0, len(palette) // 4, 0)
        header = (header + struct.pack("<3I", *masks) if masks else header).ljust(header_bytes, b"\0")
    offset = 14 + len(header) + len(palette) + gap
    return (b"BM" + struct.pack("<IHHI", offset + height * row_bytes, 0, 0, offset) + header + palette +
            bytes(gap) + rows.tobytes())


def main(folder):
    os.makedirs(folder, exist_ok=True)
    random = np.random.default_rng(20)
    width, height = 19, 13

    def samples(depth, colour):
        shape = (height, width, CHANNELS[colour])
        values = random.integers(0, 2**depth, shape)
        if depth == 16 and colour == GREY:  # both sides of the clamp
            values[: height // 2] = random.integers(0, 300, (height // 2, width, 1))
        return values

    files = {}
    kinds = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), GREY_ALPHA: (8, 16), RGBA: (8, 16)}
    names = {GREY: "grey", RGB: "rgb", GREY_ALPHA: "greyalpha", RGBA: "rgba", PALETTE: "palette"}
    for colour, depths in kinds.items():
        for depth in depths:
            for interlaced in (False, True):
                name = f"{names[colour]}{depth}{'_interlaced' if interlaced else ''}.png"
                files[name] = png(samples(depth, colour), depth, colour, interlaced)
    for depth in (1, 2, 4, 8):
        palette = random.integers(0, 256, (2**depth, 3))
        transparency = bytes(random.integers(0, 256, 2**depth).astype(np.uint8))
        for interlaced in (False, True):
            end = "_interlaced" if interlaced else ""
            indices = samples(depth, PALETTE)
            files[f"palette{depth}{end}.png"] = png(indices, depth, PALETTE, interlaced, palette)
            files[f"palette{depth}_trns{end}.png"] = png(
                indices, depth, PALETTE, interlaced, palette, transparency)
    files["palette8_short.png"] = png(samples(8, PALETTE), 8, PALETTE,
                                      palette=random.integers(0, 256, (100, 3)))
    files["grey8_trns.png"] = png(samples(8, GREY), 8, GREY, transparency=b"\0\x07")
    files["rgb8_trns.png"] = png(samples(8, RGB), 8, RGB, transparency=b"\0\x07\0\x08\0\x09")
    files["one_pixel.png"] = png(samples(8, RGB)[:1, :1], 8, RGB, True)

    smooth = np.stack(np.meshgrid(np.linspace(0, 255, 37), np.linspace(0, 255, 29)) +
                      [np.full((29, 37), 90.0)], axis=-1).astype(np.uint8)
    for name, mode, options in (
            ("colour_444.jpg", "RGB", dict(quality=95, subsampling=0)),
            ("colour_420.jpg", "RGB", dict(quality=90, subsampling=2)),
            ("progressive.jpg", "RGB", dict(quality=90, progressive=True)),
            ("grey.jpg", "L", dict(quality=95))):
        Image.fromarray(smooth).convert(mode).save(os.path.join(folder, name), **options)
    noise = random.integers(0, 256, (height, width, 3)).astype(np.uint8)
    Image.fromarray(noise).save(os.path.join(folder, "rgb24.bmp"))
    Image.fromarray(noise).convert("L").save(os.path.join(folder, "grey8.bmp"))
    Image.fromarray(noise).convert("P").save(os.path.join(folder, "palette8.bmp"))
    Image.fromarray(noise).convert("1").save(os.path.join(folder, "bits1.bmp"))

    raw = noise.tobytes()
    rows = np.frombuffer(raw, np.uint8)[:720].reshape(-1, 24)
    colours = bytes(reversed(raw))
    files["rgb555.bmp"] = bmp(rows, 16)
    files["rgb555_top.bmp"] = bmp(rows, 16, masks=(0x7C00, 0x3E0, 0x1F), from_top=True)
    files["rgb565.bmp"] = bmp(rows, 16, header_bytes=108, masks=(0xF800, 0x7E0, 0x1F))
    files["rgb32.bmp"] = bmp(rows, 32, header_bytes=124, masks=(0xFF000000, 0xFF0000, 0xFF00), gap=8)
    files["palette1_os2.bmp"] = bmp(rows[:, :4], 1, colours[:6], 12)
    files["palette4_os2.bmp"] = bmp(rows, 4, colours[:48], 12)
    files["palette8_os2.bmp"] = bmp(rows, 8, (colours * 2)[:768], 12, gap=4)
    files["palette8_short.bmp"] = bmp(rows, 8, colours[:400], gap=4)
    size = f"{width} {height}".encode()
    files["colour.ppm"] = b"P6\n# a comment\n" + size + b"\n255\n" + raw
    files["colour_max100.ppm"] = b"P6 " + size + b" 100\n" + bytes(v % 101 for v in raw)
    files["colour16.ppm"] = b"P6 " + size + b" 65535\n" + raw + noise[::-1].tobytes()
    files["grey.ppm"] = b"P5\n" + size + b"\n255\n" + raw[: width * height]
    files["grey_max6.ppm"] = b"P5\n" + size + b"\n6\n" + bytes(v % 7 for v in raw[: width * height])
    files["grey16.ppm"] = b"P5\n" + size + b"\n65535\n" + bytes(
        b for v in raw[: width * height] for b in ((0, v) if v % 2 else (v, 1)))

    for name, data in files.items():
        with open(os.path.join(folder, name), "wb") as file:
            file.write(data)
    for width, height, to_width, to_height in (
            (61, 47, 32, 32), (20, 47, 32, 32), (47, 20, 32, 32), (32, 50, 32, 32), (50, 32, 32, 32),
            (9, 7, 32, 32), (333, 5, 17, 3), (1, 1, 5, 4), (64, 64, 32, 32)):
        noise = random.integers(0, 2, (height, width, 3)).astype(np.uint8) * 255
        noise = np.where(random.random(noise.shape) < 0.7, noise,
                         random.integers(0, 256, noise.shape)).astype(np.uint8)
        base = os.path.join(folder, f"resize_{width}x{height}.ppm")
        Image.fromarray(noise).save(base)
        small = Image.fromarray(noise).resize((to_width, to_height), Image.BILINEAR)
        small.save(f"{base}.to_{to_width}x{to_height}.ppm")

    for name in sorted(os.listdir(folder)):
        if not name.endswith(".rgb.ppm") and not name.startswith("resize_"):
            path = os.path.join(folder, name)
            Image.open(path).convert("RGB").save(path + ".rgb.ppm")


main(sys.argv[1])
