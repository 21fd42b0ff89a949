"""Kills build/pack at random moments while it packs a tar file. Whatever it leaves, a later run must
not take for a pack what is not the whole pack, and must end with the same packs as an undisturbed one.

Usage: kill_while_packing.py BUILD_FOLDER [--tar FILE] [--kills N] [--seed N] [--work FOLDER]
Without --tar a small demo tar is made. Needs Python's standard library only.
"""
import argparse
import filecmp
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time


def pack(build, *arguments, **options):
    return subprocess.run([build / "pack", *map(str, arguments)], capture_output=True, text=True,
                          check=False, **options)


def check_leftovers(build, tar, cache, whole):
    """Packs that are there are whole ones, and nothing but packs and what is being written is."""
    packs = 0
    for path in cache.iterdir():
        if path.suffix == ".pack":
            assert filecmp.cmp(path, whole / path.name, shallow=False), f"{path} is not the whole pack"
            packs += 1
        else:
            assert path.name == tar.name + ".seen" or path.suffix == ".tmp", f"{path} was left behind"
    return packs


def kill_once(build, tar, cache, whole, delay):
    """Returns what the kill left: the number of packs, or None if packing had ended before."""
    command = [build / "pack", "--data_root", tar, "--cache_dir", cache]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            process.kill()
        killed = process.wait() < 0
    packs = check_leftovers(build, tar, cache, whole) if cache.exists() else 0
    return packs if killed else None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--tar", type=pathlib.Path)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=pathlib.Path, help="folder for the packs (default: a temporary one)")
    options = parser.parse_args()
    build = options.build.resolve()
    random.seed(options.seed)
    work = pathlib.Path(tempfile.mkdtemp(prefix="rodeo-kill-", dir=options.work))
    try:
        tar = options.tar
        if tar is None:
            tar = work / "demo.tar"
            subprocess.run([build / "demo_data", "--out", work / "demo", "--classes", "4",
                            "--per_class", "60", "--tar", tar], check=True, capture_output=True)
        whole = work / "whole"
        start = time.monotonic()
        result = pack(build, "--data_root", tar, "--cache_dir", whole)
        seconds = time.monotonic() - start
        assert result.returncode == 0, result.stderr
        print(f"{tar}: packed in {seconds:.1f} s undisturbed", flush=True)
        cache = work / "cache"
        kills = 0
        seen = set()
        while kills < options.kills:
            packs = kill_once(build, tar, cache, whole, random.uniform(0, 1.05 * seconds))
            if packs is None:
                check_leftovers(build, tar, cache, whole)
                shutil.rmtree(cache)
                continue
            kills += 1
            seen.add(packs)
            print(f"kill {kills}: left {packs} whole packs", flush=True)
        result = pack(build, "--data_root", tar, "--cache_dir", cache)
        assert result.returncode == 0, result.stderr
        assert check_leftovers(build, tar, cache, whole) == 3
        assert not list(cache.glob("*.tmp"))
        print(f"killed {kills} times; then packed as if undisturbed")
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    sys.exit(main())
