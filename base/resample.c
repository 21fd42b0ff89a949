#include "base/resample.h"

#include <math.h>

int resample_taps(int inputs, int outputs)
{
    return 2 * (inputs > outputs ? inputs / outputs : 1) + 3;
}

/* Pillow multiplies by the inverse of the reach: a division would round differently. */
static double triangle(double distance, double inverse_reach)
{
    return fmax(0.0, 1.0 - fabs(distance * inverse_reach));
}

void resample_filter(int inputs, int outputs, int taps, int32_t *first, int32_t *count,
                     int32_t *weights)
{
    double scale = (double)inputs / outputs;
    double reach = fmax(scale, 1.0);
    double inverse = 1.0 / reach;
    for (int j = 0; j < outputs; j++) {
        double centre = (j + 0.5) * scale;
        int low = (int)(centre - reach + 0.5);
        int high = (int)(centre + reach + 0.5);
        low = low < 0 ? 0 : low;
        high = high > inputs ? inputs : high;
        double sum = 0;
        for (int i = low; i < high; i++) {
            sum += triangle(i - centre + 0.5, inverse);
        }
        int32_t *weight = weights + (int64_t)j * taps;
        for (int i = low; i < high; i++) {
            double share = triangle(i - centre + 0.5, inverse) / sum;
            weight[i - low] = (int32_t)(share * (1 << RESAMPLE_BITS) + 0.5);
        }
        first[j] = low;
        count[j] = high - low;
    }
}
