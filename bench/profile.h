/* Where the time of a step goes: every operator that is called between open and close, with its
 * time on the device, FLOPs and bytes. Operators run one after the other meanwhile, on one lane. */
#ifndef RODEO_BENCH_PROFILE_H
#define RODEO_BENCH_PROFILE_H

#include "kernels/device.h"

#include <stdio.h>

typedef struct Profile Profile;

/* Measures at most `most` calls; the program ends where there are more. timed: false only counts.
 */
Profile *profile_open(Backend *be, int most, bool timed);
void profile_close(Profile *profile);

/* Stops measuring. */
void profile_stop(Profile *profile);

/* Measures anew; what was measured so far is forgotten. */
void profile_restart(Profile *profile);

/* FLOPs of all calls. */
double profile_flops(const Profile *profile);

/* Calls measured. */
int profile_calls(const Profile *profile);

/* Prints a table, the longest first: one row for each operator, or for each operator and shape. */
void profile_print(const Profile *profile, bool by_shape, FILE *out);

#endif
