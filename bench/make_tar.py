"""Makes a large tar file in ROD-synROD's layout from a small data set: its pictures again and again,
under ever new names, lists last. For load tests.

    make_tar.py DATA_ROOT OUT.tar PICTURES      e.g. build/demo_data --out demo; make_tar.py demo big.tar 100000
"""
import io
import pathlib
import random
import sys
import tarfile


def main(root, out, pictures):
    root = pathlib.Path(root)
    random.seed(1)
    sources = {}  # per data set: pairs of (RGB bytes, depth bytes)
    lines = (root / "synROD/synARID_50k-split_sync_train1.txt").read_text().splitlines()[:400]
    sources["synROD"] = [[(root / "synROD" / line.split(" ")[0].replace("***", m)).read_bytes()
                          for m in ("rgb", "depth")] for line in lines]
    rgb = sorted((root / "ROD/rgb-washington").glob("*/*/*_crop.png"))[:400]
    depth = [pathlib.Path(str(p).replace("rgb-washington", "surfnorm-washington")
                          .replace("_crop.png", "_depthcrop.png")) for p in rgb]
    sources["ROD"] = [[a.read_bytes(), b.read_bytes()] for a, b in zip(rgb, depth)]
    lists = {"synROD/synARID_50k-split_sync_train1.txt": [], "synROD/synARID_50k-split_sync_test1.txt": [],
             "ROD/wrgbd_40k-split_sync.txt": []}
    with tarfile.open(out, "w", format=tarfile.GNU_FORMAT) as tar:
        def add(name, data):
            info = tarfile.TarInfo("ROD-synROD/" + name)
            info.size = len(data)
            info.mtime = 1500000000
            tar.addfile(info, io.BytesIO(data))
        for i in range(pictures // 2):
            label = i % 51
            if i % 2 == 0:
                name = f"synROD/c{label}/***/p{i}.png"
                spelt = [name.replace("***", m) for m in ("rgb", "depth")]
                which = "train1" if i % 10 else "test1"
                lists[f"synROD/synARID_50k-split_sync_{which}.txt"].append(f"{name[7:]} {label}")
                data = random.choice(sources["synROD"])
            else:
                stem = f"c{label}/c{label}_1/c{label}_1_1_{i}"
                spelt = [f"ROD/rgb-washington/{stem}_crop.png", f"ROD/surfnorm-washington/{stem}_depthcrop.png"]
                lists["ROD/wrgbd_40k-split_sync.txt"].append(f"{stem}_***.png {label}")
                data = random.choice(sources["ROD"])
            add(spelt[0], data[0])
            add(spelt[1], data[1])
        for name, content in lists.items():
            random.shuffle(content)
            add(name, ("\n".join(content) + "\n").encode())


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
