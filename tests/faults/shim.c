/* Loaded into the program under test with LD_PRELOAD: counts its calls that change files below a folder, and makes one of
 * them fail, or kills the program there.
 *
 * SHIM_PROGRAM  name of the program; in all others (workers, shells) nothing happens
 * SHIM_ROOT     the folder
 * SHIM_LOG      each call is noted here, one a line
 * SHIM_AT       number of the call at which it happens, from 1
 * SHIM_HOW      before: killed before it | after: killed after it | torn: killed with half of it written
 *               full: from here on no space is left | error: an I/O error, once
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static const char *root;
static size_t root_length;
static long at;
static const char *how = "";
static int log_fd = -1;
static atomic_long calls;

__attribute__((constructor)) static void prepare(void) {
    const char *program = getenv("SHIM_PROGRAM"), *log = getenv("SHIM_LOG");
    char exe[4096];
    ssize_t length = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (!program || !log || length < 0) return;
    exe[length] = 0;
    if (strcmp(strrchr(exe, '/') + 1, program)) return;
    log_fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    at = atol(getenv("SHIM_AT"));
    how = getenv("SHIM_HOW");
    root_length = strlen(getenv("SHIM_ROOT"));
    root = getenv("SHIM_ROOT");
}

static int is(const char *what) { return !strcmp(how, what); }

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Where a call points to: `path` as seen from the folder `fd`, or the file `fd` itself. */
static const char *place(int fd, const char *path, char *buffer, size_t size) {
    if (path && (path[0] == '/' || fd == AT_FDCWD)) return path;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, buffer, size - 1);
    if (length < 0) return "";
    buffer[length] = 0;
    if (path) snprintf(buffer + length, size - length, "/%s", path);
    return buffer;
}

/* Number of the call, 0 for one that does not count, -1 for one that must fail with errno. */
static long begin(const char *call, int fd, const char *path, int takes_space) {
    if (!root) return 0;
    char buffer[8192], line[8448];
    const char *where = place(fd, path, buffer, sizeof buffer);
    if (strncmp(where, root, root_length) || where[root_length] != '/') return 0;
    long number = atomic_fetch_add(&calls, 1) + 1;
    int length = snprintf(line, sizeof line, "%ld %s %s\n", number, call, where + root_length + 1);
    syscall(SYS_write, log_fd, line, (size_t)length);
    if (number == at && is("before")) die();
    if (number == at && is("error")) return errno = EIO, -1;
    if (number >= at && is("full") && takes_space) return errno = ENOSPC, -1;
    return number;
}

static void end(long number) {
    int saved = errno;
    if (number > 0 && number == at && is("after")) die();
    errno = saved;
}

#define REAL(name) static __typeof__(name) *real; if (!real) real = dlsym(RTLD_NEXT, #name)
#define AROUND(type, call, fd, path, takes_space, really) \
    long number = begin(call, fd, path, takes_space); \
    if (number < 0) return -1; \
    type result = really; \
    end(number); \
    return result

#define OPEN(name, fd, ...) { \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { va_list list; va_start(list, flags); mode = va_arg(list, mode_t); va_end(list); } \
    REAL(name); \
    if ((flags & O_ACCMODE) == O_RDONLY && !(flags & O_CREAT)) return real(__VA_ARGS__); \
    AROUND(int, "open", fd, path, flags & O_CREAT, real(__VA_ARGS__)); \
}
int open(const char *path, int flags, ...) OPEN(open, AT_FDCWD, path, flags, mode)
int open64(const char *path, int flags, ...) OPEN(open64, AT_FDCWD, path, flags, mode)
int openat(int fd, const char *path, int flags, ...) OPEN(openat, fd, fd, path, flags, mode)
int openat64(int fd, const char *path, int flags, ...) OPEN(openat64, fd, fd, path, flags, mode)

ssize_t write(int fd, const void *bytes, size_t size) {
    REAL(write);
    long number = begin("write", fd, NULL, 1);
    if (number < 0) return -1;
    if (number > 0 && number == at && is("torn")) {
        real(fd, bytes, size / 2);
        die();
    }
    ssize_t result = real(fd, bytes, size);
    end(number);
    return result;
}
ssize_t writev(int fd, const struct iovec *parts, int count) { REAL(writev); AROUND(ssize_t, "write", fd, NULL, 1, real(fd, parts, count)); }
ssize_t copy_file_range(int from, off64_t *a, int to, off64_t *b, size_t size, unsigned flags) {
    REAL(copy_file_range); AROUND(ssize_t, "copy", to, NULL, 1, real(from, a, to, b, size, flags));
}
ssize_t sendfile64(int to, int from, off64_t *offset, size_t size) {
    static ssize_t (*real)(int, int, off64_t *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "sendfile64");
    AROUND(ssize_t, "copy", to, NULL, 1, real(to, from, offset, size));
}
int fsync(int fd) { REAL(fsync); AROUND(int, "fsync", fd, NULL, 1, real(fd)); }
int fdatasync(int fd) { REAL(fdatasync); AROUND(int, "fsync", fd, NULL, 1, real(fd)); }
int ftruncate64(int fd, off64_t size) { REAL(ftruncate64); AROUND(int, "truncate", fd, NULL, 0, real(fd, size)); }
int rename(const char *from, const char *to) { REAL(rename); AROUND(int, "rename", AT_FDCWD, to, 0, real(from, to)); }
int renameat(int a, const char *from, int b, const char *to) { REAL(renameat); AROUND(int, "rename", b, to, 0, real(a, from, b, to)); }
int link(const char *from, const char *to) { REAL(link); AROUND(int, "link", AT_FDCWD, to, 1, real(from, to)); }
int linkat(int a, const char *from, int b, const char *to, int flags) { REAL(linkat); AROUND(int, "link", b, to, 1, real(a, from, b, to, flags)); }
int symlink(const char *from, const char *to) { REAL(symlink); AROUND(int, "symlink", AT_FDCWD, to, 1, real(from, to)); }
int mkdir(const char *path, mode_t mode) { REAL(mkdir); AROUND(int, "mkdir", AT_FDCWD, path, 1, real(path, mode)); }
int chmod(const char *path, mode_t mode) { REAL(chmod); AROUND(int, "chmod", AT_FDCWD, path, 0, real(path, mode)); }
int fchmod(int fd, mode_t mode) { REAL(fchmod); AROUND(int, "chmod", fd, NULL, 0, real(fd, mode)); }
int unlink(const char *path) { REAL(unlink); AROUND(int, "unlink", AT_FDCWD, path, 0, real(path)); }
int unlinkat(int fd, const char *path, int flags) { REAL(unlinkat); AROUND(int, "unlink", fd, path, 0, real(fd, path, flags)); }
int rmdir(const char *path) { REAL(rmdir); AROUND(int, "unlink", AT_FDCWD, path, 0, real(path)); }
int flock(int fd, int operation) { REAL(flock); AROUND(int, "lock", fd, NULL, 0, real(fd, operation)); }
int futimens(int fd, const struct timespec times[2]) { REAL(futimens); AROUND(int, "touch", fd, NULL, 0, real(fd, times)); }
