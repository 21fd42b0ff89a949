"""Philox4x32-10 in NumPy: the random numbers of base/rng.h, for scripts that make golden values."""
import numpy as np

MASK = np.uint64(0xFFFFFFFF)
SHIFT = np.uint64(32)


def philox4x32(key, c0, c1, c2, c3):
    """The four 32-bit words of blocks (c0, c1, c2, c3) under a 64-bit key.

    The counter words are integers or arrays of one shape [...], taken modulo 2^32.
    Returns uint32 [..., 4].
    """
    key = int(key)
    k0, k1 = key & 0xFFFFFFFF, key >> 32 & 0xFFFFFFFF
    c0, c1, c2, c3 = np.broadcast_arrays(*(np.asarray(c).astype(np.uint64) & MASK
                                           for c in (c0, c1, c2, c3)))
    for _ in range(10):
        product0 = np.uint64(0xD2511F53) * c0
        product1 = np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = ((product1 >> SHIFT) ^ c1 ^ np.uint64(k0), product1 & MASK,
                          (product0 >> SHIFT) ^ c3 ^ np.uint64(k1), product0 & MASK)
        k0 = k0 + 0x9E3779B9 & 0xFFFFFFFF
        k1 = k1 + 0xBB67AE85 & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def philox_words(key, count, c1, c2, c3):
    """`count` words in sequence: word i is word i mod 4 of block (i / 4, c1, c2, c3)."""
    blocks = np.arange((count + 3) // 4, dtype=np.uint64)
    return philox4x32(key, blocks, c1, c2, c3).reshape(-1)[:count]


def check_known_answers():
    """Compares with the answers that the generator's authors publish."""
    ones = 0xFFFFFFFF
    cases = [
        (0, (0, 0, 0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        (ones << 32 | ones, (ones,) * 4, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (0x299F31D0A4093822, (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
         "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ]
    for key, counter, answer in cases:
        words = " ".join(f"{word:08x}" for word in philox4x32(key, *counter))
        if words != answer:
            raise AssertionError(f"Philox gives {words}, published is {answer}")


check_known_answers()
