#include "train/sums.h"

void sums_add(EpochSums *sums, const StepResult *result)
{
    if (result->skipped) {
        sums->skipped++;
        sums->skipped_in_a_row++;
        return;
    }
    sums->learned++;
    sums->skipped_in_a_row = 0;
    sums->correct += result->correct;
    sums->cls += result->cls;
    sums->ent += result->ent;
    sums->rot_source += result->rot_source;
    sums->rot_target += result->rot_target;
    sums->last_cls = result->cls;
    sums->last_rot_source = result->rot_source;
    sums->last_rot_target = result->rot_target;
}

void sums_begin_epoch(EpochSums *sums)
{
    *sums = (EpochSums){.skipped_in_a_row = sums->skipped_in_a_row};
}
