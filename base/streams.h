/* The three streams that every process is started with. */
#ifndef RODEO_BASE_STREAMS_H
#define RODEO_BASE_STREAMS_H

#include "base/err.h"

/* Opens /dev/null in the place of each that the process was started without (`>&-`): the next file
 * that is opened would get its number, and what is printed would be written into that file. The
 * first call of a program's main. */
void streams_complete(void);

/* Whether everything that was printed to standard output could be written. */
int streams_check_output(Err *err);

#endif
