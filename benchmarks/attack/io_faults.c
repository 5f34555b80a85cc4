/* Fails the n-th call that reaches a file below one folder. Loaded with LD_PRELOAD; see faults.py.
 *
 * attack_arm(folder, n, kinds, error, lasting): from now on the n-th call (from 1) of the kinds fails with errno `error`,
 * and with `lasting` all after it; error -1: a read or a write does half of what it should. attack_count(): calls so far.
 * Counting starts with attack_arm; n = 0 only counts. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN = 1, READ = 2, WRITE = 4, SYNC = 8, NAME = 16, MAP = 32, STAT = 64 };

static char folder[PATH_MAX];
static long at, seen;
static int kinds, error_code, lasting;

void attack_arm(const char *where, long n, int which, int code, int stay) {
    strncpy(folder, where, sizeof folder - 1);
    at = n; kinds = which; error_code = code; lasting = stay; seen = 0;
}

long attack_count(void) { return seen; }

static int below_path(const char *path) {
    return folder[0] && path && strncmp(path, folder, strlen(folder)) == 0;
}

static int below(int fd) {
    char link[64], path[PATH_MAX];
    if (!folder[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0) return 0;
    path[n] = 0;
    return below_path(path);
}

/* 1: fail with errno set; 2: do half */
static int hit(int kind) {
    if (!(kinds & kind)) return 0;
    long mine = __sync_add_and_fetch(&seen, 1);
    if (!at || mine < at || (mine > at && !lasting)) return 0;
    if (error_code == -1) return 2;
    errno = error_code;
    return 1;
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = dlsym(RTLD_NEXT, name)

#define OPENS(name) \
int name(const char *path, int flags, ...) { \
    REAL(int, #name, const char *, int, ...); \
    va_list list; va_start(list, flags); mode_t mode = va_arg(list, mode_t); va_end(list); \
    if (below_path(path) && hit(OPEN) == 1) return -1; \
    return real(path, flags, mode); \
}
OPENS(open)
OPENS(open64)

#define OPENATS(name) \
int name(int directory, const char *path, int flags, ...) { \
    REAL(int, #name, int, const char *, int, ...); \
    va_list list; va_start(list, flags); mode_t mode = va_arg(list, mode_t); va_end(list); \
    if (below_path(path) && hit(OPEN) == 1) return -1; \
    return real(directory, path, flags, mode); \
}
OPENATS(openat)
OPENATS(openat64)

#define MOVES(name, kind, buffer) \
ssize_t name(int fd, buffer data, size_t size) { \
    REAL(ssize_t, #name, int, buffer, size_t); \
    int how = below(fd) ? hit(kind) : 0; \
    return how == 1 ? -1 : real(fd, data, how == 2 && size > 1 ? size / 2 : size); \
}
MOVES(read, READ, void *)
MOVES(write, WRITE, const void *)

#define MOVES_AT(name, kind, buffer) \
ssize_t name(int fd, buffer data, size_t size, off_t place) { \
    REAL(ssize_t, #name, int, buffer, size_t, off_t); \
    int how = below(fd) ? hit(kind) : 0; \
    return how == 1 ? -1 : real(fd, data, how == 2 && size > 1 ? size / 2 : size, place); \
}
MOVES_AT(pread, READ, void *)
MOVES_AT(pread64, READ, void *)
MOVES_AT(pwrite, WRITE, const void *)
MOVES_AT(pwrite64, WRITE, const void *)

#define SYNCS(name) \
int name(int fd) { \
    REAL(int, #name, int); \
    return below(fd) && hit(SYNC) == 1 ? -1 : real(fd); \
}
SYNCS(fsync)
SYNCS(fdatasync)

#define TRUNCATES(name) \
int name(int fd, off_t size) { \
    REAL(int, #name, int, off_t); \
    return below(fd) && hit(WRITE) == 1 ? -1 : real(fd, size); \
}
TRUNCATES(ftruncate)
TRUNCATES(ftruncate64)

int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    return below_path(to) && hit(NAME) == 1 ? -1 : real(from, to);
}

int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    return below_path(path) && hit(NAME) == 1 ? -1 : real(path);
}

int mkdir(const char *path, mode_t mode) {
    REAL(int, "mkdir", const char *, mode_t);
    return below_path(path) && hit(NAME) == 1 ? -1 : real(path, mode);
}

#define MAPS(name) \
void *name(void *address, size_t size, int protection, int flags, int fd, off_t place) { \
    REAL(void *, #name, void *, size_t, int, int, int, off_t); \
    return fd >= 0 && below(fd) && hit(MAP) == 1 ? MAP_FAILED : real(address, size, protection, flags, fd, place); \
}
MAPS(mmap)
MAPS(mmap64)
