/* What the measuring programs make of their timings. */
#ifndef RODEO_BENCH_MEDIAN_H
#define RODEO_BENCH_MEDIAN_H

/* The median of count values, which are sorted, smallest first; of an even number the upper one. */
double median(double *values, int count);

#endif
