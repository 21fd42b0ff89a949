"""Writes doubles.txt: doubles and how Python's repr() spells them.

One line a value: its 64 bits in hexadecimal, a blank, repr(value). Run with any Python 3; the result
does not depend on the machine. tests/test_text.c compares text_double() with it.
"""
import os
import random
import struct


def values():
    yield from [0.0, -0.0, 1.0, -1.0, 0.1, 0.05, 0.0001, 0.00009999, 1e-05, 123456.0, 1e15, 1e16, 1e22,
                9007199254740993.0, 1234567890123456.0, 12345678901234567.0, 2.5, 1 / 3, 5e-324,
                2.2250738585072014e-308, 1.7976931348623157e308, 0.9999999999999999, 1e23, 9.5e-5,
                float("inf"), float("-inf"), float("nan")]
    for exponent in range(-1074, 1024, 11):
        yield 2.0 ** exponent
    # Powers of two whose shortest decimal is not the nearest one of that length.
    for exponent in (-1017, -1007, -957, -921, -808, -44):
        yield 2.0 ** exponent
    generator = random.Random(1)
    for _ in range(200):
        yield struct.unpack("<d", struct.pack("<Q", generator.getrandbits(64)))[0]
    for digits in range(1, 18):
        for _ in range(6):
            yield float(f"{generator.uniform(-1, 1):.{digits}e}") * 10 ** generator.randint(-6, 17)


def main():
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "doubles.txt")
    with open(path, "w", encoding="ascii") as file:
        for value in values():
            bits = struct.unpack("<Q", struct.pack("<d", value))[0]
            file.write(f"{bits:016x} {value!r}\n")


main()
