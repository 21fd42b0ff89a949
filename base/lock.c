#include "base/lock.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define FUSE_SUPER_MAGIC 0x65735546

/* Who holds a lock, as its file says. */
typedef struct {
    long pid;
    char host[HOST_NAME_MAX + 1];
    char boot[40];      /* this start of the machine */
    uint64_t started;   /* of the process, in the kernel's ticks: a number is used again */
    unsigned long beat; /* counts the signs of life */
} Holder;

struct Lock {
    int fd;
    bool beats; /* signs of life are needed: a thread shows them */
    LockTimes times;
    Holder self;
    pthread_t heart;
    pthread_mutex_t mutex;
    pthread_cond_t ended;
    bool ending; /* under the mutex */
};

/* The first word of a small file of the kernel's; "" if it cannot be read. */
static void read_word(const char *path, char *word, size_t size)
{
    FILE *file = fopen(path, "re");
    word[0] = '\0';
    if (file) {
        if (!fgets(word, (int)size, file)) {
            word[0] = '\0';
        }
        fclose(file);
    }
    word[strcspn(word, " \n")] = '\0';
}

/* When a process started (field 22 of its stat file); 0 if there is no such process. */
static uint64_t process_start(long pid)
{
    char *path = mem_format("/proc/%ld/stat", pid);
    char line[1024] = "";
    FILE *file = fopen(path, "re");
    free(path);
    if (!file) {
        return 0;
    }
    const char *rest = fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
    fclose(file);
    for (int field = 2; rest && field < 22; field++) {
        rest = strchr(rest + 1, ' ');
    }
    return rest ? strtoull(rest, NULL, 10) : 0;
}

static Holder describe_self(void)
{
    Holder self = {.pid = (long)getpid(), .started = process_start((long)getpid())};
    if (gethostname(self.host, sizeof self.host - 1) != 0 || self.host[0] == '\0') {
        snprintf(self.host, sizeof self.host, "localhost");
    }
    read_word("/proc/sys/kernel/random/boot_id", self.boot, sizeof self.boot);
    if (self.boot[0] == '\0') {
        snprintf(self.boot, sizeof self.boot, "-");
    }
    return self;
}

/* One line of fixed length: a new one covers the old one whole. */
static int write_holder(int fd, const Holder *holder)
{
    char *line = mem_format("pid %ld host %s boot %s started %" PRIu64 " beat %010lu\n",
                            holder->pid, holder->host, holder->boot, holder->started, holder->beat);
    ssize_t bytes = (ssize_t)strlen(line);
    int rc = pwrite(fd, line, (size_t)bytes, 0) == bytes && ftruncate(fd, bytes) == 0 ? 0 : -1;
    free(line);
    return rc;
}

/* The word behind " KEY " in a line, "" if the key is not there. */
static void find_word(const char *line, const char *key, char *word, size_t size)
{
    const char *at = strstr(line, key);
    word[0] = '\0';
    if (at) {
        snprintf(word, size, "%s", at + strlen(key));
        word[strcspn(word, " \n")] = '\0';
    }
}

/* As find_word; false if there is no whole number. */
static bool find_number(const char *line, const char *key, uint64_t *number)
{
    char word[32];
    char *end;
    find_word(line, key, word, sizeof word);
    *number = strtoull(word, &end, 10);
    return end != word && *end == '\0';
}

/* Whether the file names a holder. */
static bool read_holder(int fd, Holder *holder)
{
    char line[512] = " "; /* in front of the first key */
    uint64_t pid;
    uint64_t beat;
    *holder = (Holder){0};
    ssize_t bytes = pread(fd, line + 1, sizeof line - 2, 0);
    line[bytes > 0 ? bytes + 1 : 1] = '\0';
    find_word(line, " host ", holder->host, sizeof holder->host);
    find_word(line, " boot ", holder->boot, sizeof holder->boot);
    if (!find_number(line, " pid ", &pid) || !find_number(line, " beat ", &beat) ||
        !find_number(line, " started ", &holder->started) || !holder->host[0]) {
        *holder = (Holder){0};
        return false;
    }
    holder->pid = (long)pid;
    holder->beat = (unsigned long)beat;
    return true;
}

static bool same_machine(const Holder *a, const Holder *b)
{
    return strcmp(a->host, b->host) == 0 &&
           (strcmp(a->boot, b->boot) == 0 || a->boot[0] == '-' || b->boot[0] == '-');
}

static int refuse(const char *path, const Holder *holder, Err *err)
{
    return holder->pid != 0
               ? err_set(err, "%s is held by process %ld on %s", path, holder->pid, holder->host)
               : err_set(err, "%s is held by another process", path);
}

static double file_age(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 ? clock_unix() - (double)status.st_mtim.tv_sec : 0;
}

/* Waits for a sign of life of a holder on another machine. Reads through a new descriptor each
 * time: some file systems show other machines' changes only to those. */
static bool is_alive_elsewhere(const char *path, const Holder *before, const LockTimes *times)
{
    const struct timespec pause = {.tv_nsec = 100 * 1000 * 1000};
    double end = clock_seconds() + times->patience;
    while (clock_seconds() < end) {
        nanosleep(&pause, NULL);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        Holder after;
        bool there = fd >= 0 && read_holder(fd, &after);
        if (fd >= 0) {
            close(fd);
        }
        if (there && (after.beat != before->beat || after.pid != before->pid ||
                      strcmp(after.host, before->host) != 0)) {
            return true;
        }
    }
    return false;
}

/* Decides by what the file says. `locked`: this machine's kernel says that no other process of this
 * machine holds it. */
static int check_holder(const Lock *lock, const char *path, bool locked, Log *log, Err *err)
{
    Holder holder;
    char byte;
    if (pread(lock->fd, &byte, 1, 0) < 0) {
        return err_set(err, "%s: cannot read who holds it: %s", path, strerror(errno));
    }
    if (!read_holder(lock->fd, &holder)) {
        return 0; /* given back, or never taken */
    }
    if (same_machine(&holder, &lock->self)) {
        bool lives = !locked && holder.started != 0 && process_start(holder.pid) == holder.started;
        return lives ? refuse(path, &holder, err) : 0;
    }
    if (file_age(lock->fd) > lock->times.stale) {
        return 0;
    }
    if (log) {
        log_note(
            log,
            "%s names process %ld on %s, which this machine cannot look at: waiting %.0f s for "
            "a sign of life from it.",
            path, holder.pid, holder.host, lock->times.patience);
    }
    return is_alive_elsewhere(path, &holder, &lock->times) ? refuse(path, &holder, err) : 0;
}

static bool is_fuse(int fd)
{
    struct statfs status;
    return fstatfs(fd, &status) == 0 && status.f_type == FUSE_SUPER_MAGIC;
}

static int take(Lock *lock, const char *path, Log *log, Err *err)
{
    Holder holder;
    bool locked = flock(lock->fd, LOCK_EX | LOCK_NB) == 0;
    if (!locked && errno == EWOULDBLOCK) {
        read_holder(lock->fd, &holder);
        return refuse(path, &holder, err);
    }
    lock->beats = !locked || is_fuse(lock->fd);
    if (lock->beats && check_holder(lock, path, locked, log, err) != 0) {
        return -1;
    }
    if (write_holder(lock->fd, &lock->self) != 0) {
        return err_set(err, "%s: cannot write: %s", path, strerror(errno));
    }
    return 0;
}

/* ---- signs of life --------------------------------------------------------------------------- */

static void *beat(void *context)
{
    Lock *lock = context;
    struct timespec next = clock_from_now(lock->times.beat);
    pthread_mutex_lock(&lock->mutex);
    while (!lock->ending) {
        if (pthread_cond_timedwait(&lock->ended, &lock->mutex, &next) != ETIMEDOUT) {
            continue;
        }
        pthread_mutex_unlock(&lock->mutex);
        lock->self.beat++;
        /* Where it cannot be written, nothing else can: the checkpoint's warnings tell. */
        (void)write_holder(lock->fd, &lock->self);
        next = clock_from_now(lock->times.beat);
        pthread_mutex_lock(&lock->mutex);
    }
    pthread_mutex_unlock(&lock->mutex);
    return NULL;
}

static void start_heart(Lock *lock)
{
    pthread_mutex_init(&lock->mutex, NULL);
    thread_condition_open(&lock->ended);
    thread_start(&lock->heart, beat, lock, "keeps a lock");
}

static void stop_heart(Lock *lock)
{
    pthread_mutex_lock(&lock->mutex);
    lock->ending = true;
    pthread_cond_signal(&lock->ended);
    pthread_mutex_unlock(&lock->mutex);
    pthread_join(lock->heart, NULL);
    pthread_cond_destroy(&lock->ended);
    pthread_mutex_destroy(&lock->mutex);
}

/* ---- taking and giving back ------------------------------------------------------------------ */

Lock *lock_take(const char *path, const LockTimes *times, Log *log, Err *err)
{
    Lock *lock = mem_zeroed(1, sizeof *lock);
    lock->times = *times;
    lock->self = describe_self();
    lock->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (lock->fd < 0) {
        err_set(err, "%s: cannot create: %s", path, strerror(errno));
        free(lock);
        return NULL;
    }
    if (take(lock, path, log, err) != 0) {
        close(lock->fd); /* nothing of ours is in it */
        free(lock);
        return NULL;
    }
    if (lock->beats) {
        start_heart(lock);
    }
    return lock;
}

void lock_release(Lock *lock)
{
    if (!lock) {
        return;
    }
    if (lock->beats) {
        stop_heart(lock);
    }
    /* Emptied, not removed: another process may have opened it already and wait for it. What stays
     * in it where that fails names a process that is gone. */
    (void)!ftruncate(lock->fd, 0);
    close(lock->fd);
    free(lock);
}
