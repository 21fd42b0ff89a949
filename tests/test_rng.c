/* Random numbers: the published known answers of Philox4x32-10, and the distributions drawn from
 * them. */
#include "base/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define DRAWS 200000

typedef struct {
    uint64_t key;
    uint32_t counter[4];
    uint32_t answer[4];
} KnownAnswer;

/* From the kat_vectors file that the generator's authors publish with Random123; the key there is
 * listed as two words, low word first. */
static const KnownAnswer known_answers[] = {
    {0, {0, 0, 0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {UINT64_MAX,
     {UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX},
     {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {0x299f31d0a4093822,
     {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};

static void philox_gives_known_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof known_answers / sizeof known_answers[0]; i++) {
        const KnownAnswer *known = &known_answers[i];
        Philox block = philox4x32(known->key, known->counter[0], known->counter[1],
                                  known->counter[2], known->counter[3]);
        for (int word = 0; word < 4; word++) {
            assert_int_equal(block.word[word], known->answer[word]);
        }
    }
}

/* Another program must be able to replay a sequence: the block number is the first counter word,
 * the use the high byte of the second. */
static void sequence_follows_its_counter(void **state)
{
    (void)state;
    const uint64_t seed = 0x0123456789abcdef;
    Rng rng = rng_at(seed, RNG_AUGMENT, 7, 8, 9);
    for (uint32_t block = 0; block < 3; block++) {
        Philox expected = philox4x32(seed, block, (uint32_t)RNG_AUGMENT << 24 | 7, 8, 9);
        for (int word = 0; word < 4; word++) {
            assert_int_equal(rng_u32(&rng), expected.word[word]);
        }
    }
}

/* Pearson's chi-square over n equally likely results must stay within five standard deviations. */
static void below_is_uniform(void **state)
{
    (void)state;
    const uint32_t sizes[] = {1, 2, 3, 4, 7, 33};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        uint32_t n = sizes[s];
        int seen[33] = {0};
        Rng rng = rng_at(1, RNG_SHUFFLE, n, 0, 0);
        for (int i = 0; i < DRAWS; i++) {
            uint32_t drawn = rng_below(&rng, n);
            assert_true(drawn < n);
            seen[drawn]++;
        }
        double expected = (double)DRAWS / n;
        double chi_square = 0;
        for (uint32_t i = 0; i < n; i++) {
            chi_square += (seen[i] - expected) * (seen[i] - expected) / expected;
        }
        double freedom = n - 1;
        assert_true(chi_square <= freedom + 5 * sqrt(2 * freedom));
    }
}

/* With n = 3 * 2^30 the plain remainder of a word would hit the lowest third twice as often as the
 * others, and the plain high half of the product the multiples of three. */
static void below_has_no_bias_for_large_n(void **state)
{
    (void)state;
    const uint32_t n = 3u << 30;
    int thirds[3] = {0};
    int residues[3] = {0};
    Rng rng = rng_at(2, RNG_SHUFFLE, 0, 0, 0);
    for (int i = 0; i < DRAWS; i++) {
        uint32_t drawn = rng_below(&rng, n);
        thirds[drawn / (1u << 30)]++;
        residues[drawn % 3]++;
    }
    double deviation = sqrt(DRAWS * (1.0 / 3) * (2.0 / 3));
    for (int i = 0; i < 3; i++) {
        assert_true(fabs(thirds[i] - DRAWS / 3.0) < 5 * deviation);
        assert_true(fabs(residues[i] - DRAWS / 3.0) < 5 * deviation);
    }
}

static void uniform_uses_53_bits(void **state)
{
    (void)state;
    Rng rng = rng_at(3, RNG_INITIAL_WEIGHTS, 0, 0, 0);
    double sum = 0;
    int ones[53] = {0};
    for (int i = 0; i < DRAWS; i++) {
        double drawn = rng_uniform(&rng);
        assert_true(drawn >= 0 && drawn < 1);
        sum += drawn;
        double scaled = drawn * 0x1p53;
        assert_true(scaled == floor(scaled));
        for (int bit = 0; bit < 53; bit++) {
            ones[bit] += (int)((uint64_t)scaled >> bit & 1);
        }
    }
    for (int bit = 0; bit < 53; bit++) {
        assert_true(fabs(ones[bit] - DRAWS / 2.0) < 5 * sqrt(DRAWS / 4.0));
    }
    assert_true(fabs(sum / DRAWS - 0.5) < 5 * sqrt(1.0 / 12 / DRAWS));
}

/* Moments 1 to 4 of the standard normal are 0, 1, 0, 3; the bounds are five standard errors. */
static void normal_has_the_moments(void **state)
{
    (void)state;
    Rng rng = rng_at(4, RNG_INITIAL_WEIGHTS, 0, 0, 0);
    double sums[4] = {0};
    for (int i = 0; i < DRAWS; i++) {
        double drawn = rng_normal(&rng);
        double power = 1;
        for (int k = 0; k < 4; k++) {
            power *= drawn;
            sums[k] += power;
        }
    }
    const double expected[4] = {0, 1, 0, 3};
    const double variance[4] = {1, 2, 15, 96};
    for (int k = 0; k < 4; k++) {
        assert_true(fabs(sums[k] / DRAWS - expected[k]) < 5 * sqrt(variance[k] / DRAWS));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_known_answers),
        cmocka_unit_test(sequence_follows_its_counter),
        cmocka_unit_test(below_is_uniform),
        cmocka_unit_test(below_has_no_bias_for_large_n),
        cmocka_unit_test(uniform_uses_53_bits),
        cmocka_unit_test(normal_has_the_moments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
