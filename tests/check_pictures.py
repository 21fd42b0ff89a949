"""What the network reads of a picture, against Pillow and torchvision: packed, resized, cropped, flipped,
turned, normalised.

Usage: check_pictures.py AUGMENT_PICTURES. Every width from 1 to 700 and every height from 1 to 500 has its
own filter along its axis, and the two passes of a resize do not depend on each other, so 700 pictures
meet each of them. Then all formats of golden/pictures and more, at every corner of the crop, flipped or
not, in all four rotations. Before normalisation no value may be more than 1/255 apart, and 95 % of each
picture's must be equal.
"""
import os
import pathlib
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import functional as transforms

RESIZE, CROP = 256, 224
MARGIN = RESIZE - CROP
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
GOLDEN = pathlib.Path(__file__).resolve().parent / "golden/pictures"


def smooth_noise(width, height, seed):
    """A picture with detail of every size."""
    random = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for cells in (2, 9, 60):
        coarse = Image.fromarray(random.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        total += np.asarray(coarse.resize((width, height), Image.BICUBIC)) / 3
    total += random.normal(0, 12, total.shape)
    return Image.fromarray(total.clip(0, 255).astype(np.uint8))


def make_sizes(folder):
    for width in range(1, 701):
        height = (width * 311 + 127) % 500 + 1
        name = folder / f"size-{width}x{height}.png"
        smooth_noise(width, height, width).save(name, compress_level=1)
        yield name


def make_formats(folder):
    """Each format that Pillow writes, large enough to be shrunk."""
    colour = smooth_noise(333, 217, 1)
    tall = smooth_noise(90, 400, 2)
    wide = np.arange(333 * 217, dtype=np.uint16).reshape(217, 333)
    pictures = {
        "grey.png": colour.convert("L"), "grey16.png": Image.fromarray(wide),
        "greyalpha.png": colour.convert("LA"), "rgba.png": colour.convert("RGBA"),
        "palette.png": colour.quantize(200), "bits1.png": colour.convert("1"), "tall.png": tall,
        "bmp.bmp": colour, "ppm.ppm": colour,
    }
    jpegs = {"jpeg444.jpg": (colour, {"subsampling": 0}), "jpeg420.jpg": (colour, {"subsampling": 2}),
             "progressive.jpg": (tall, {"progressive": True, "subsampling": 0}),
             "greyjpeg.jpg": (colour.convert("L"), {})}
    for name, picture in pictures.items():
        name = "made-" + name
        picture.save(folder / name)
        yield folder / name
    for name, (picture, options) in jpegs.items():
        name = "made-" + name
        picture.save(folder / name, quality=92, **options)
        yield folder / name


def variants(path):
    """(top, left, flip, turns): all of them for formats, a few for sizes."""
    corners = ((0, 0), (0, MARGIN), (MARGIN, 0), (MARGIN, MARGIN), (MARGIN // 2, MARGIN // 2))
    if path.name.startswith("size-"):
        number = sum(path.name.encode())
        return [(*corners[number % 5], number // 5 % 2, number // 10 % 4)]
    return [(*corner, flip, turns) for corner in corners for flip in (0, 1) for turns in range(4)]


def expected(resized, top, left, flip, turns):
    picture = transforms.crop(resized, top, left, CROP, CROP)
    picture = transforms.hflip(picture) if flip else picture
    return np.asarray(transforms.rotate(picture, 90 * turns))


def lay_out(root, pictures):
    """A data root in synROD's layout whose pair i has the i-th picture twice."""
    for modality in ("rgb", "depth"):
        (root / f"synROD/apple/{modality}").mkdir(parents=True)
    (root / "ROD").mkdir()
    with open(root / "synROD/synARID_50k-split_sync_train1.txt", "w", encoding="utf-8") as file:
        for path in pictures:
            for modality in ("rgb", "depth"):
                os.symlink(path, root / f"synROD/apple/{modality}/{path.name}")
            file.write(f"apple/***/{path.name} 0\n")


class Tally:
    def __init__(self):
        self.pictures, self.values, self.equal, self.failures = 0, 0, 0, []
        self.largest = 0

    def add(self, path, variant, found, wanted):
        """found: normalised floats [crop,crop,3]."""
        apart = np.abs((found * STD + MEAN) * 255 - wanted)
        # float32 and the normalisation back leave less than a hundredth of a step.
        equal = apart < 0.01
        self.pictures, self.values = self.pictures + 1, self.values + equal.size
        self.equal += int(equal.sum())
        self.largest = max(self.largest, apart.max())
        if apart.max() > 1.01 or equal.mean() < 0.95 or not np.isfinite(apart).all():
            self.failures.append(f"{path.name} {variant}: up to {apart.max():.2f} apart, "
                                 f"{100 * equal.mean():.2f} % equal")


def main():
    program = sys.argv[1]
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "Palette images with Transparency")
    with tempfile.TemporaryDirectory(prefix="rodeo-pictures-") as name:
        folder = pathlib.Path(name)
        golden = [path for path in sorted(GOLDEN.iterdir()) if not path.name.endswith(".rgb.ppm")
                  and not path.name.startswith("resize_")]
        pictures = [*make_sizes(folder), *make_formats(folder), *golden]
        lay_out(folder / "data", pictures)
        lines = [(index, index % 2, *variant) for index, path in enumerate(pictures)
                 for variant in variants(path)]
        tally, last, resized = Tally(), None, None
        (folder / "plan").write_text("".join(" ".join(map(str, line)) + "\n" for line in lines))
        with open(folder / "plan", encoding="utf-8") as plan, subprocess.Popen(
                [program, folder / "data", folder / "pack", str(RESIZE), str(CROP)], stdin=plan,
                stdout=subprocess.PIPE) as process:
            for index, _, *variant in lines:
                if index != last:
                    image = Image.open(pictures[index]).convert("RGB")
                    last, resized = index, transforms.resize(image, [RESIZE, RESIZE])
                raw = process.stdout.read(CROP * CROP * 3 * 4)
                if len(raw) < CROP * CROP * 3 * 4:
                    sys.exit(f"{program} ended early")
                found = np.frombuffer(raw, np.float32).reshape(CROP, CROP, 3)
                tally.add(pictures[index], variant, found, expected(resized, *variant))
        if process.wait() != 0:
            sys.exit(f"{program} failed")
    print(f"{len(pictures)} files, {tally.pictures} pictures: "
          f"{100 * tally.equal / tally.values:.4f} % of the values are equal; "
          f"the largest distance is {tally.largest:.3f}")
    for failure in tally.failures[:40]:
        print("TOO FAR:", failure)
    sys.exit(bool(tally.failures))


main()
