/* Work that ends its process, in a child of its own. */
#ifndef RODEO_TESTS_CHILD_H
#define RODEO_TESTS_CHILD_H

#define CHILD_TEXT 1024

/* Runs `work` in a child process, which ends with status 0 if it returns. text: what it wrote to
 * standard error, cut to what there is room for. Returns the exit status; fails the test if the
 * child was killed by a signal. */
int child_run(void (*work)(void *context), void *context, char text[static CHILD_TEXT]);

#endif
