"""What Python libraries take for the same pictures: decoding and shrinking with Pillow, torchvision.io
and OpenCV (where it is installed) on one core, and a PyTorch DataLoader with the experiment's transforms.

    data_reference.py DATA_ROOT [--workers 2] [--batch 32] [--seconds 3]
"""
import argparse
import pathlib
import time

import torch
import torchvision
from PIL import Image


def pairs_of(root):
    """Paths of the training list's pairs."""
    lines = (root / "synROD/synARID_50k-split_sync_train1.txt").read_text().splitlines()
    return [[str(root / "synROD" / line.split(" ")[0].replace("***", m)) for m in ("rgb", "depth")]
            for line in lines]


def decode_pillow(path):
    image = Image.open(path).convert("RGB")
    size = (min(image.width, 256), min(image.height, 256))
    return image if size == image.size else image.resize(size, Image.BILINEAR)


def decode_torchvision(path):
    image = torchvision.io.read_image(path, torchvision.io.ImageReadMode.RGB)
    size = [min(image.shape[1], 256), min(image.shape[2], 256)]
    if size == list(image.shape[1:]):
        return image
    return torchvision.transforms.functional.resize(image, size, antialias=True)


def opencv():
    try:
        import cv2
    except ImportError:
        return None
    cv2.setNumThreads(1)

    def decode(path):
        image = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)
        size = (min(image.shape[1], 256), min(image.shape[0], 256))
        return image if size == image.shape[1::-1] else cv2.resize(image, size)
    return decode


def measure(decode, paths, seconds):
    """Pictures a second of the best pass."""
    best = 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        for path in paths:
            decode(path)
        best = max(best, len(paths) / (time.perf_counter() - start))
    return best


class Pairs(torch.utils.data.Dataset):
    """The experiment's transform of one pair, as its PyTorch program writes it."""

    def __init__(self, pairs):
        self.pairs = pairs

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        f = torchvision.transforms.functional
        top, left, flip = (int(torch.randint(n, ())) for n in (33, 33, 2))
        out = []
        for path in self.pairs[index]:
            image = f.resize(Image.open(path).convert("RGB"), (256, 256))
            image = f.crop(image, top, left, 224, 224)
            image = f.hflip(image) if flip else image
            out.append(f.normalize(f.to_tensor(image), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        return out


def measure_loader(pairs, workers, batch, seconds):
    loader = torch.utils.data.DataLoader(Pairs(pairs), batch_size=batch, shuffle=True, drop_last=True,
                                         num_workers=workers, persistent_workers=True)
    best = 0
    end = time.perf_counter() + seconds
    next(iter(loader))  # starts the workers
    while time.perf_counter() < end:
        start = time.perf_counter()
        count = sum(batch * bool(len(x)) for x in loader)
        best = max(best, count / (time.perf_counter() - start))
    return best


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data_root", type=pathlib.Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    pairs = pairs_of(options.data_root)
    paths = [path for pair in pairs for path in pair]
    for name, decode in (("Pillow", decode_pillow), ("torchvision.io", decode_torchvision),
                         ("OpenCV", opencv())):
        if decode is None:
            print(f"{name} decode and shrink, 1 thread: not installed")
        else:
            print(f"{name} decode and shrink, 1 thread: "
                  f"{measure(decode, paths, options.seconds):.0f} pictures/s", flush=True)
    rate = measure_loader(pairs, options.workers, options.batch, options.seconds)
    print(f"PyTorch DataLoader, {options.workers} workers: {rate:.0f} pairs/s")


if __name__ == "__main__":
    main()
