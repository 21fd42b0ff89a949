#include "base/streams.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void streams_complete(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        /* open() takes the lowest number that is free */
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd) {
            fatal("/dev/null: cannot open: %s", strerror(errno));
        }
    }
}

int streams_check_output(Err *err)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) {
        return 0;
    }
    return err_set(err, "standard output: what was printed could not all be written: is the disk "
                        "full?");
}
