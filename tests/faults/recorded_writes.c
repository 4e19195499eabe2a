/* Records what a process changes in the files of one folder, for recorded_disk.py, which makes a power cut of it.
 *
 *     LD_PRELOAD=recorded_writes.so RECORDED_FOLDER=/… RECORDED_JOURNAL=/… program
 *
 * Everything is done as it was asked for, and then written to the journal, except that fsync does not wait for the disk
 * below. Of the system calls there are those that the Erlang machine changes files with; that none is missing is checked
 * by whoever reads the journal: all of it together has to give the folder as it is.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { OPENED = 1, WRITTEN, RESIZED, SYNCED, RENAMED, UNLINKED, MADE_FOLDER, REMOVED_FOLDER, CLOSED };

/* As recorded_disk.py reads it; `inode` and `offset` are 0 where they mean nothing. */
struct header {
    uint64_t nanoseconds, inode, offset;
    uint32_t kind, length, second_length, unused;
};

static int journal = -1;
static const char *folder;
static size_t folder_length;
#define DESCRIPTORS 65536
static _Atomic char recorded[DESCRIPTORS]; /* by file descriptor: whether it is one of the folder's files */

#define REAL(result, name, ...)                                   \
    static result (*real_##name)(__VA_ARGS__);                    \
    if (!real_##name) real_##name = dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("RECORDED_JOURNAL");
    folder = getenv("RECORDED_FOLDER");
    if (!path || !folder) return;
    folder_length = strlen(folder);
    REAL(int, open, const char *, int, ...);
    int opened = real_open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    /* High, so that it is not taken for one of the program's own. */
    journal = fcntl(opened, F_DUPFD_CLOEXEC, 900);
    close(opened);
}

static int inside(const char *path) {
    return journal >= 0 && !strncmp(path, folder, folder_length) && path[folder_length] == '/';
}

/* One call of writev, which O_APPEND makes one piece. */
static void record(uint32_t kind, uint64_t inode, uint64_t offset, const void *first, size_t length,
                   const char *second) {
    REAL(ssize_t, writev, int, const struct iovec *, int);
    int error = errno;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    struct header header = {now.tv_sec * 1000000000ull + now.tv_nsec, inode, offset, kind, length,
                            second ? strlen(second) : 0, 0};
    struct iovec parts[] = {{&header, sizeof header}, {(void *)first, length}, {(void *)second, header.second_length}};
    ssize_t whole = sizeof header + length + header.second_length;
    if (real_writev(journal, parts, 3) != whole) {
        fputs("recorded_writes: the journal takes no more\n", stderr);
        abort();
    }
    errno = error;
}

static int is_recorded(int fd) { return fd >= 0 && fd < DESCRIPTORS && recorded[fd]; }

static struct stat status_of(int fd) {
    struct stat status = {0};
    fstat(fd, &status);
    return status;
}

static void record_file(uint32_t kind, int fd, uint64_t offset, const void *data, size_t length) {
    record(kind, status_of(fd).st_ino, offset, data, length, NULL);
}

/* After a write at the file's own position. */
static void record_write(int fd, const void *data, ssize_t written) {
    record_file(WRITTEN, fd, lseek(fd, 0, SEEK_CUR) - written, data, written);
    if (fcntl(fd, F_GETFL) & (O_SYNC | O_DSYNC)) record_file(SYNCED, fd, 0, NULL, 0);
}

static int opened(int fd, const char *path, int flags) {
    if (fd < 0 || fd >= DESCRIPTORS || !inside(path)) return fd;
    struct stat status = status_of(fd);
    if (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode)) recorded[fd] = 1;
    if (S_ISREG(status.st_mode)) record(OPENED, status.st_ino, flags & O_TRUNC ? 1 : 0, path, strlen(path), NULL);
    return fd;
}

#define OPEN(name)                                                \
    int name(const char *path, int flags, ...) {                  \
        REAL(int, name, const char *, int, ...);                  \
        va_list more;                                             \
        va_start(more, flags);                                    \
        mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0; \
        va_end(more);                                             \
        return opened(real_##name(path, flags, mode), path, flags); \
    }
OPEN(open)
OPEN(open64)

int close(int fd) {
    REAL(int, close, int);
    if (is_recorded(fd)) {
        record_file(CLOSED, fd, 0, NULL, 0);
        recorded[fd] = 0;
    }
    return real_close(fd);
}

ssize_t write(int fd, const void *data, size_t length) {
    REAL(ssize_t, write, int, const void *, size_t);
    ssize_t written = real_write(fd, data, length);
    if (written > 0 && is_recorded(fd)) record_write(fd, data, written);
    return written;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(ssize_t, writev, int, const struct iovec *, int);
    ssize_t written = real_writev(fd, parts, count);
    if (written <= 0 || !is_recorded(fd)) return written;
    char *whole = malloc(written), *end = whole;
    for (ssize_t left = written; left > 0; parts++) {
        size_t length = parts->iov_len < (size_t)left ? parts->iov_len : (size_t)left;
        end = mempcpy(end, parts->iov_base, length);
        left -= length;
    }
    record_write(fd, whole, written);
    free(whole);
    return written;
}

#define PWRITE(name)                                                            \
    ssize_t name(int fd, const void *data, size_t length, off_t offset) {       \
        REAL(ssize_t, name, int, const void *, size_t, off_t);                  \
        ssize_t written = real_##name(fd, data, length, offset);                \
        if (written > 0 && is_recorded(fd)) {                                   \
            record_file(WRITTEN, fd, offset, data, written);                    \
            if (fcntl(fd, F_GETFL) & (O_SYNC | O_DSYNC)) record_file(SYNCED, fd, 0, NULL, 0); \
        }                                                                       \
        return written;                                                         \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

static int resized(int result, int fd) {
    if (!result && is_recorded(fd)) record_file(RESIZED, fd, status_of(fd).st_size, NULL, 0);
    return result;
}

#define RESIZE(name, parameters, arguments)                       \
    int name parameters {                                         \
        static int(*real) parameters;                             \
        if (!real) real = dlsym(RTLD_NEXT, #name);                \
        return resized(real arguments, fd);                       \
    }
RESIZE(ftruncate, (int fd, off_t size), (fd, size))
RESIZE(ftruncate64, (int fd, off_t size), (fd, size))
RESIZE(fallocate, (int fd, int mode, off_t offset, off_t length), (fd, mode, offset, length))
RESIZE(posix_fallocate, (int fd, off_t offset, off_t length), (fd, offset, length))

#define SYNC(name)                                                \
    int name(int fd) {                                            \
        REAL(int, name, int);                                     \
        if (!is_recorded(fd)) return real_##name(fd);             \
        record_file(SYNCED, fd, 0, NULL, 0);                      \
        return 0;                                                 \
    }
SYNC(fsync)
SYNC(fdatasync)

int rename(const char *from, const char *to) {
    REAL(int, rename, const char *, const char *);
    int result = real_rename(from, to);
    if (!result && (inside(from) || inside(to))) record(RENAMED, 0, 0, from, strlen(from), to);
    return result;
}

static int recorded_name(int result, uint32_t kind, const char *path) {
    if (!result && inside(path)) record(kind, 0, 0, path, strlen(path), NULL);
    return result;
}

int unlink(const char *path) {
    REAL(int, unlink, const char *);
    return recorded_name(real_unlink(path), UNLINKED, path);
}

int mkdir(const char *path, mode_t mode) {
    REAL(int, mkdir, const char *, mode_t);
    return recorded_name(real_mkdir(path, mode), MADE_FOLDER, path);
}

int rmdir(const char *path) {
    REAL(int, rmdir, const char *);
    return recorded_name(real_rmdir(path), REMOVED_FOLDER, path);
}
