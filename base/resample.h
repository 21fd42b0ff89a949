/* The integer filter of Pillow's bilinear resize along one axis: a triangle that widens when it
 * shrinks. Packing and augmentation share it, so that a picture shrunk beforehand gives the network
 * the same pixels.
 *
 * For output j of n inputs: scale = n/outputs, f = max(scale, 1), c = (j + 1/2) scale,
 *   first = max(0, trunc(c - f + 1/2)), last = min(n, trunc(c + f + 1/2)),
 *   weight of i in [first, last) = max(0, 1 - |i - c + 1/2|/f) over the weights' sum, in doubles,
 *   then trunc(w 2^22 + 1/2). */
#ifndef RODEO_BASE_RESAMPLE_H
#define RODEO_BASE_RESAMPLE_H

#include <stdint.h>

#define RESAMPLE_BITS 22 /* of a weight behind the point */

/* How this header's inline function is declared; code for another processor sets it otherwise. */
#ifndef RESAMPLE_INLINE
#define RESAMPLE_INLINE static inline
#endif

/* Places for weights that every output needs at most. */
int resample_taps(int inputs, int outputs);

/* Output j is the sum of count[j] inputs from first[j] on, with the weights at weights + j * taps.
 * first and count have room for `outputs`, weights for outputs * taps, taps as resample_taps says.
 */
void resample_filter(int inputs, int outputs, int taps, int32_t *first, int32_t *count,
                     int32_t *weights);

/* A filtered sum of 8-bit samples, rounded to 8 bits. The weights add up to 2^22 but for half a
 * unit each, so for any picture that fits into memory the result is within 0..255 without a clamp.
 */
RESAMPLE_INLINE uint8_t resample_round(int32_t sum)
{
    return (uint8_t)((sum + (1 << (RESAMPLE_BITS - 1))) >> RESAMPLE_BITS);
}

#endif
