#include "child.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

int child_run(void (*work)(void *context), void *context, char text[static CHILD_TEXT])
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        work(context);
        _exit(0);
    }
    close(ends[1]);
    size_t length = 0;
    ssize_t more = 0;
    while ((more = read(ends[0], text + length, CHILD_TEXT - 1 - length)) > 0) {
        length += (size_t)more;
    }
    close(ends[0]);
    text[length] = '\0';
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}
