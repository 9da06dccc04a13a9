/* Preloaded into a process under test: SIGKILL at the n-th call that changes a file below a folder.

   KILL_BELOW  the folder; KILL_AT  n, counted from 1 (0: never); KILL_COUNT  a file that gets the number of calls.
   A write that is killed has written half. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long calls;
static const char *below;
static long at;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void) {
    below = getenv("KILL_BELOW");
    at = getenv("KILL_AT") ? atol(getenv("KILL_AT")) : 0;
}

__attribute__((destructor)) static void end(void) {
    const char *name = getenv("KILL_COUNT");
    FILE *file = name && atomic_load(&calls) ? fopen(name, "w") : NULL;
    if (file) { fprintf(file, "%ld", atomic_load(&calls)); fclose(file); }
}

static int due(const char *path) {
    return below && path && strncmp(path, below, strlen(below)) == 0 && atomic_fetch_add(&calls, 1) + 1 == at;
}

static int due_open_file(int number) {
    char link[64], path[PATH_MAX + 1];
    if (!below) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", number);
    ssize_t length = readlink(link, path, PATH_MAX);
    if (length < 0) return 0;
    path[length] = 0;
    return due(path);
}

static void die(void) { kill(getpid(), SIGKILL); for (;;) pause(); }

#define CREATES(flags) ((flags) & (O_CREAT | O_TRUNC))

int open(const char *path, int flags, ...) {
    va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest);
    if (CREATES(flags) && due(path)) die();
    return REAL(open)(path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest);
    if (CREATES(flags) && due(path)) die();
    return REAL(open64)(path, flags, mode);
}
int openat(int folder, const char *path, int flags, ...) {
    va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest);
    if (CREATES(flags) && due(path)) die();
    return REAL(openat)(folder, path, flags, mode);
}
int openat64(int folder, const char *path, int flags, ...) {
    va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest);
    if (CREATES(flags) && due(path)) die();
    return REAL(openat64)(folder, path, flags, mode);
}
ssize_t write(int number, const void *data, size_t length) {
    if (due_open_file(number)) { REAL(write)(number, data, length / 2); die(); }
    return REAL(write)(number, data, length);
}
ssize_t writev(int number, const struct iovec *parts, int count) {
    if (due_open_file(number)) die();
    return REAL(writev)(number, parts, count);
}
ssize_t pwrite64(int number, const void *data, size_t length, off64_t offset) {
    if (due_open_file(number)) { REAL(pwrite64)(number, data, length / 2, offset); die(); }
    return REAL(pwrite64)(number, data, length, offset);
}
int rename(const char *from, const char *to) {
    if (due(to)) die();
    return REAL(rename)(from, to);
}
int renameat(int a, const char *from, int b, const char *to) {
    if (due(to)) die();
    return REAL(renameat)(a, from, b, to);
}
int link(const char *from, const char *to) {
    if (due(to)) die();
    return REAL(link)(from, to);
}
int linkat(int a, const char *from, int b, const char *to, int flags) {
    if (due(to)) die();
    return REAL(linkat)(a, from, b, to, flags);
}
int unlink(const char *path) {
    if (due(path)) die();
    return REAL(unlink)(path);
}
int unlinkat(int folder, const char *path, int flags) {
    if (due(path)) die();
    return REAL(unlinkat)(folder, path, flags);
}
int mkdir(const char *path, mode_t mode) {
    if (due(path)) die();
    return REAL(mkdir)(path, mode);
}
