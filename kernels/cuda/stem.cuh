/* What the stem's two directions share: its shape, and how positions are told from their number. */
#ifndef RODEO_KERNELS_CUDA_STEM_CUH
#define RODEO_KERNELS_CUDA_STEM_CUH

#include "kernels/cuda/norm.cuh"

/* Division by a number that is known before the kernel starts: n / by = n factor >> shift, exactly
 * for 0 <= n < 2^31, because factor = ceil(2^shift / by) is too large by less than one part in
 * 2^31. Granlund and Montgomery, "Division by invariant integers using multiplication", 1994. */
typedef struct {
    int by;
    uint32_t factor;
    int shift;
} Divisor;

/* by: at least 1 */
Divisor divisor(int by);

/* Leaves n mod by in n and returns n / by. */
__device__ static inline int divide(int *n, const Divisor &d)
{
    int quotient = (int)(((uint64_t)(uint32_t)*n * d.factor) >> d.shift);
    *n -= quotient * d.by;
    return quotient;
}

typedef struct {
    int pictures; /* of all groups */
    int N;        /* pictures of a group */
    int H, W, P, Q, C;
    int vectors; /* of the channels */
    Divisor by_H, by_P, by_Q;
} PoolShape;

/* V: channels a vector. Ends the program where positions cannot be counted in 30 bits, which leaves
 * room for places beside them. */
PoolShape pool_shape(const StemShape *s, int V);

#endif
