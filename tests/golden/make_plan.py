#!/usr/bin/python3
"""Writes plan.txt: batches of the sampling and augmentation plan (data/plan.h), replayed in Python.

    /usr/bin/python3 tests/golden/make_plan.py

A line "settings seed epoch loader pairs batch resize crop augment rotate drop_last number count"
begins batch `number` of `count` pairs; then a line a pair: index label top left flip turns_rgb
turns_depth. The label of pair i in its list is i mod 7.
"""
import os

from philox import philox4x32

RNG_SHUFFLE, RNG_AUGMENT = 2, 3


class Draws:
    """rng_at() and rng_below() of base/rng.h."""

    def __init__(self, seed, use, a, b, c):
        self.place = (seed, use << 24 | a, b, c)
        self.words = []
        self.block = 0

    def u32(self):
        if not self.words:
            seed, *place = self.place
            self.words = [int(word) for word in philox4x32(seed, self.block, *place)]
            self.block += 1
        return self.words.pop(0)

    def below(self, n):
        while True:
            product = self.u32() * n
            if product % 2**32 >= 2**32 % n:
                return product >> 32


def plan_batch(seed, epoch, loader, pairs, batch, resize, crop, augment, rotate, drop_last, number):
    per_pass = pairs // batch if drop_last else -(-pairs // batch)
    number_of_pass, first = number // per_pass, number % per_pass * batch
    draws = Draws(seed, RNG_SHUFFLE, loader, epoch, number_of_pass)
    order = list(range(pairs))
    for i in range(pairs - 1, 0, -1):
        j = draws.below(i + 1)
        order[i], order[j] = order[j], order[i]
    margin = resize - crop
    for q in range(first, min(first + batch, pairs)):
        draws = Draws(seed, RNG_AUGMENT, loader, epoch, number_of_pass * pairs + q)
        top, left, flip, turns_rgb, turns_depth = margin // 2, margin // 2, 0, 0, 0
        if augment:
            top, left, flip = draws.below(margin + 1), draws.below(margin + 1), draws.below(2)
        label = order[q] % 7
        if rotate:
            turns_rgb, turns_depth = draws.below(4), draws.below(4)
            label = (turns_rgb - turns_depth) % 4
        yield order[q], label, top, left, flip, turns_rgb, turns_depth


def main():
    cases = [
        # seed, epoch, loader, pairs, batch, resize, crop, augment, rotate, drop_last; batch numbers
        ((1, 1, 0, 23, 8, 256, 224, 1, 0, 1), (0, 1, 2, 7)),
        ((0xFEDCBA9876543210, 40, 3, 50, 16, 256, 224, 1, 1, 1), (0, 2, 3, 10)),
        ((7, 0, 6, 23, 10, 40, 33, 1, 1, 0), (0, 1, 2, 3, 5)),
        ((7, 0, 7, 23, 10, 256, 224, 0, 0, 0), (0, 2)),
        ((9, 3, 2, 11, 5, 64, 64, 1, 1, 1), (0, 1, 2)),
    ]
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "plan.txt")
    with open(path, "w", encoding="ascii") as file:
        for settings, numbers in cases:
            for number in numbers:
                pairs = list(plan_batch(*settings, number))
                print("settings", *settings, number, len(pairs), file=file)
                for pair in pairs:
                    print(*pair, file=file)


if __name__ == "__main__":
    main()
