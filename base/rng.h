/* Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random
 * numbers: as easy as 1, 2, 3", SC 2011).
 *
 * There is no state to save: every draw is a pure function of a 64-bit key (the run's seed) and a
 * 128-bit counter (where in the run the draw happens). The same four counter words give the same
 * numbers in C, in CUDA and in Python. */
#ifndef RODEO_BASE_RNG_H
#define RODEO_BASE_RNG_H

#include <stdint.h>

typedef struct {
    uint32_t word[4];
} Philox;

/* How this header's inline function is declared; code for another processor sets it otherwise. */
#ifndef RNG_INLINE
#define RNG_INLINE static inline
#endif

/* The four 32-bit words of block (c0, c1, c2, c3) under key. */
RNG_INLINE Philox philox4x32(uint64_t key, uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3)
{
    uint32_t k0 = (uint32_t)key;
    uint32_t k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t product0 = (uint64_t)0xD2511F53u * c0;
        uint64_t product1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t next0 = (uint32_t)(product1 >> 32) ^ c1 ^ k0;
        uint32_t next2 = (uint32_t)(product0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)product1;
        c3 = (uint32_t)product0;
        c0 = next0;
        c2 = next2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    Philox block = {{c0, c1, c2, c3}};
    return block;
}

/* Who draws: the high byte of a stream's name, so that no two uses share a counter. */
enum {
    RNG_INITIAL_WEIGHTS = 1,
    RNG_SHUFFLE = 2,
    RNG_AUGMENT = 3,
    RNG_DROPOUT = 4,
    RNG_DEMO = 5,
};

/* A sequence of draws at one place: key, and three counter words that name the place. The fourth
 * counter word numbers the blocks of the sequence. */
typedef struct {
    uint64_t key;
    uint32_t place[3];
    uint32_t block;
    int used; /* words of `current` handed out; 4: none left */
    Philox current;
} Rng;

/* The sequence of `use` (an RNG_... constant) at place (a, b, c) under seed; a < 2^24. */
Rng rng_at(uint64_t seed, unsigned use, uint32_t a, uint32_t b, uint32_t c);

uint32_t rng_u32(Rng *rng);

/* Uniform on {0, ..., n-1}, without bias; n >= 1. */
uint32_t rng_below(Rng *rng, uint32_t n);

/* Uniform on [0, 1), 53 bits. */
double rng_uniform(Rng *rng);

/* Standard normal (Box-Muller; one of the pair is used). */
double rng_normal(Rng *rng);

#endif
