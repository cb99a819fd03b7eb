/*
 * Stands between a program and the C library (LD_PRELOAD): calls on descriptors fail now and then, by a seed, and what
 * is done to the files of a folder is recorded in its order. Which calls fail, and how often, stands in a file that the
 * test has mapped too (tests/peers/interposed.py has the same layout). Without INTERPOSED_CONTROL it does nothing.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

/* What a descriptor or a path is. Files of the store, the temporary files of large bodies, other files of the state
 * folder, that folder itself, the log, and four kinds of connections. */
enum kind { UNKNOWN, OTHER, STORE, SPOOL, FILES, FOLDER, LOG, CLIENT, UPSTREAM, CONTROL, PAGES, KINDS };
enum call { WRITE, READ, SYNC, OPEN, RENAME, UNLINK, LINK, TRUNCATE, ACCEPT, CONNECT, CALLS };
enum op { OP_CREATE = 1, OP_WRITE, OP_TRUNCATE, OP_SYNC, OP_SYNC_FOLDER, OP_RENAME, OP_UNLINK, OP_LINK, OP_SENT };

#define MOST_FAULTS 8
#define SHORT (-1) /* instead of an errno: less is written or read than was asked for */
#define MILLION 1000000
#define RARELY_CALLED 5 /* so many times as often fail the calls that are neither to read nor to write */

struct control {
    uint64_t seed;
    uint64_t smtp_port, pages_port, upstream_port;
    uint64_t lies;        /* a sync does nothing and says that it has */
    uint64_t log_size;    /* of the record, which is mapped at its full size */
    _Atomic uint64_t log_used;
    uint64_t rates[KINDS]; /* of a million calls */
    _Atomic uint64_t calls[KINDS][CALLS];
    _Atomic uint64_t faults[KINDS][CALLS][MOST_FAULTS];
    _Atomic uint32_t is_ready;
    pthread_mutex_t lock; /* of the record: what it has is in the order in which it happened */
};

struct entry {
    uint32_t op, kind;
    uint64_t inode, offset, length;
    uint32_t path, target; /* how long the two paths are */
};

static struct control *control;
static unsigned char *record;
static char state[PATH_MAX];
static size_t state_length;
static _Atomic unsigned char kinds[65536];

#define REAL(name) ((__typeof__(&name))real(&real_##name, #name))
#define DECLARE(name) static void *real_##name
static void *real(void **place, const char *name) {
    if (!*place) *place = dlsym(RTLD_NEXT, name);
    return *place;
}
DECLARE(write); DECLARE(pwrite64); DECLARE(writev); DECLARE(send); DECLARE(sendto); DECLARE(sendmsg);
DECLARE(read); DECLARE(pread64); DECLARE(recv); DECLARE(recvfrom); DECLARE(recvmsg); DECLARE(fsync); DECLARE(fdatasync);
DECLARE(open64); DECLARE(openat64); DECLARE(renameat); DECLARE(link);
DECLARE(unlinkat); DECLARE(ftruncate64); DECLARE(accept4); DECLARE(connect); DECLARE(close); DECLARE(socket);
DECLARE(dup2);

static void *mapped(const char *path, size_t size) {
    int fd = REAL(open64)(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) abort();
    void *found = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (found == MAP_FAILED) abort();
    REAL(close)(fd);
    return found;
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("INTERPOSED_CONTROL"), *log = getenv("INTERPOSED_RECORD"), *of = getenv("INTERPOSED_STATE");
    if (!path || !of) return;
    struct control *found = mapped(path, sizeof(struct control));
    if (!found->is_ready) { /* the first one of all that have it */
        pthread_mutexattr_t shared;
        pthread_mutexattr_init(&shared);
        pthread_mutexattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
        pthread_mutexattr_setrobust(&shared, PTHREAD_MUTEX_ROBUST);
        pthread_mutex_init(&found->lock, &shared);
        found->is_ready = 1;
    }
    state_length = strlen(of);
    memcpy(state, of, state_length + 1);
    if (log) record = mapped(log, found->log_size);
    control = found;
}

static void lock(void) {
    if (pthread_mutex_lock(&control->lock) == EOWNERDEAD) pthread_mutex_consistent(&control->lock);
}

static void unlock(void) { pthread_mutex_unlock(&control->lock); }

/* With the lock. A record that is full ends the program: what is not in it would be taken for not done. */
static void note(enum op op, enum kind kind, uint64_t inode, uint64_t offset, const char *path, const char *target,
                 const struct iovec *parts, int count, uint64_t length) {
    struct entry entry = {op, kind, inode, offset, length, path ? strlen(path) : 0, target ? strlen(target) : 0};
    uint64_t at = control->log_used, data = parts ? length : 0;
    if (at + sizeof entry + entry.path + entry.target + data > control->log_size) abort();
    unsigned char *to = record + at;
    memcpy(to, &entry, sizeof entry), to += sizeof entry;
    if (path) memcpy(to, path, entry.path), to += entry.path;
    if (target) memcpy(to, target, entry.target), to += entry.target;
    for (int i = 0; i < count && data; i++) {
        uint64_t part = parts[i].iov_len < data ? parts[i].iov_len : data;
        memcpy(to, parts[i].iov_base, part), to += part, data -= part;
    }
    control->log_used = to - record;
}

static enum kind kind_of_path(const char *path, int flags) {
    if (!path || strncmp(path, state, state_length)) {
        const char *name = path ? strrchr(path, '/') : NULL;
        return name && !strcmp(name, "/log") ? LOG : OTHER;
    }
    if ((flags & O_TMPFILE) == O_TMPFILE) return SPOOL;
    const char *name = path + state_length;
    if (!*name || !strcmp(name, "/")) return FOLDER;
    if (!strncmp(name, "/relay.db", 9)) return STORE;
    if (!strncmp(name, "/body-", 6) || strstr(name, " (deleted)")) return SPOOL;
    return FILES;
}

static uint64_t port_of(const struct sockaddr_storage *address) {
    if (address->ss_family == AF_INET) return ntohs(((const struct sockaddr_in *)address)->sin_port);
    return 0;
}

static enum kind kind_of_socket(int fd) {
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &length)) return OTHER;
    if (address.ss_family == AF_UNIX)
        return strstr(((struct sockaddr_un *)&address)->sun_path, "control.sock") ? CONTROL : OTHER;
    uint64_t port = port_of(&address);
    if (port && port == control->smtp_port) return CLIENT;
    if (port && port == control->pages_port) return PAGES;
    length = sizeof address;
    if (getpeername(fd, (struct sockaddr *)&address, &length)) return UNKNOWN; /* it may be connected later */
    return port_of(&address) == control->upstream_port ? UPSTREAM : OTHER;
}

static enum kind kind_of(int fd) {
    if (!control || fd < 0 || fd >= (int)sizeof kinds) return OTHER;
    enum kind found = kinds[fd];
    if (found != UNKNOWN) return found;
    struct stat status;
    char link[32], path[PATH_MAX];
    if (fstat(fd, &status)) return OTHER;
    if (S_ISSOCK(status.st_mode)) {
        found = kind_of_socket(fd);
    } else if (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode)) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, path, sizeof path - 1);
        path[length < 0 ? 0 : length] = 0;
        found = kind_of_path(path, 0);
    } else {
        found = OTHER;
    }
    kinds[fd] = found;
    return found == UNKNOWN ? OTHER : found;
}

static void forget(int fd) {
    if (fd >= 0 && fd < (int)sizeof kinds) kinds[fd] = UNKNOWN;
}

static uint64_t mixed(uint64_t x) { /* splitmix64 */
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

static const int *faults_of(enum kind kind, enum call call) {
    static const int none[] = {0}, sync[] = {EIO, 0}, opened[] = {EMFILE, EIO, ENOSPC, 0}, renamed[] = {EIO, ENOSPC, 0};
    static const int removed[] = {EIO, 0}, reads[] = {EIO, 0}, file[] = {EIO, ENOSPC, SHORT, 0};
    static const int accepted[] = {EMFILE, ENFILE, ECONNABORTED, EINTR, ENOBUFS, 0};
    static const int connected[] = {ECONNREFUSED, ENETUNREACH, EADDRNOTAVAIL, ETIMEDOUT, 0};
    static const int sent[] = {ECONNRESET, EPIPE, SHORT, EINTR, 0}, got[] = {ECONNRESET, ETIMEDOUT, SHORT, EINTR, 0};
    int is_socket = kind >= CLIENT;
    switch (call) {
    case WRITE: return is_socket ? sent : file;
    case READ: return is_socket ? got : reads;
    case SYNC: return sync;
    case OPEN: return opened;
    case RENAME: case LINK: return renamed;
    case UNLINK: case TRUNCATE: return removed;
    case ACCEPT: return accepted;
    case CONNECT: return connected;
    default: return none;
    }
}

/* Returns how this call fails: an errno, SHORT, or 0. The same calls in the same order fail by the same seed. */
static int fault(enum kind kind, enum call call, int fd) {
    if (kind <= OTHER || !control) return 0;
    uint64_t number = atomic_fetch_add(&control->calls[kind][call], 1);
    uint64_t chance = mixed(control->seed ^ mixed(number * KINDS * CALLS + kind * CALLS + call));
    const int *those = faults_of(kind, call);
    uint64_t rate = control->rates[kind] * (call == WRITE || call == READ ? 1 : RARELY_CALLED);
    if (chance % MILLION >= rate || !those[0]) return 0;
    int count = 0;
    while (those[count]) count++;
    int index = (chance >> 32) % count;
    atomic_fetch_add(&control->faults[kind][call][index], 1);
    /* A connection that failed stays so, and the other end sees it, too. */
    if (fd >= 0 && (those[index] == ECONNRESET || those[index] == EPIPE || those[index] == ETIMEDOUT) &&
        call != CONNECT)
        shutdown(fd, SHUT_RDWR);
    return those[index];
}

#define FAIL_FOR(kind, call, fd)                                                                                        \
    int failed = fault(kind, call, fd);                                                                                 \
    if (failed > 0) return errno = failed, -1

static uint64_t inode_of(int fd) {
    struct stat status;
    return fstat(fd, &status) ? 0 : status.st_ino;
}

static int is_recorded(enum kind kind) { return record && (kind == STORE || kind == FILES); }

static int sends(enum kind kind) { return record && kind == CLIENT; }

static uint64_t half(uint64_t length) { return length > 1 ? length / 2 : length; }

static ssize_t written(int fd, const struct iovec *parts, int count, off64_t at) {
    enum kind kind = kind_of(fd);
    FAIL_FOR(kind, WRITE, fd);
    struct iovec one = parts[0];
    if (failed == SHORT) {
        one.iov_len = half(one.iov_len);
        parts = &one, count = 1;
    }
    if (sends(kind)) { /* before it leaves: nobody has it earlier than the record says */
        uint64_t length = 0;
        for (int i = 0; i < count; i++) length += parts[i].iov_len;
        lock(), note(OP_SENT, kind, fd, 0, NULL, NULL, parts, count, length), unlock();
    }
    int records = is_recorded(kind);
    if (records) lock();
    ssize_t done = at >= 0 ? REAL(pwrite64)(fd, parts->iov_base, parts->iov_len, at)
                   : count == 1 ? REAL(write)(fd, parts->iov_base, parts->iov_len)
                                : REAL(writev)(fd, parts, count);
    int before = errno;
    if (records && done > 0)
        note(OP_WRITE, kind, inode_of(fd), at >= 0 ? at : lseek64(fd, 0, SEEK_CUR) - done, NULL, NULL, parts, count, done);
    if (records) unlock();
    errno = before;
    return done;
}

ssize_t write(int fd, const void *octets, size_t length) {
    struct iovec part = {(void *)octets, length};
    if (!control) return REAL(write)(fd, octets, length);
    return written(fd, &part, 1, -1);
}

ssize_t pwrite64(int fd, const void *octets, size_t length, off64_t at) {
    struct iovec part = {(void *)octets, length};
    if (!control) return REAL(pwrite64)(fd, octets, length, at);
    return written(fd, &part, 1, at);
}

ssize_t pwrite(int fd, const void *octets, size_t length, off_t at) { return pwrite64(fd, octets, length, at); }

ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (!control || count < 1) return REAL(writev)(fd, parts, count);
    return written(fd, parts, count, -1);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    enum kind kind = kind_of(fd);
    FAIL_FOR(kind, WRITE, fd);
    if (kind <= OTHER || message->msg_iovlen < 1) return REAL(sendmsg)(fd, message, flags);
    struct msghdr some = *message;
    struct iovec one = message->msg_iov[0];
    if (failed == SHORT) {
        one.iov_len = half(one.iov_len);
        some.msg_iov = &one, some.msg_iovlen = 1;
    }
    if (sends(kind)) {
        uint64_t length = 0;
        for (size_t i = 0; i < some.msg_iovlen; i++) length += some.msg_iov[i].iov_len;
        lock(), note(OP_SENT, kind, fd, 0, NULL, NULL, some.msg_iov, some.msg_iovlen, length), unlock();
    }
    return REAL(sendmsg)(fd, &some, flags);
}

static size_t may_send(int fd, enum kind kind, const void *octets, size_t length, int is_short) {
    if (is_short) length = half(length);
    struct iovec part = {(void *)octets, length};
    if (sends(kind)) lock(), note(OP_SENT, kind, fd, 0, NULL, NULL, &part, 1, length), unlock();
    return length;
}

ssize_t send(int fd, const void *octets, size_t length, int flags) {
    enum kind kind = kind_of(fd);
    FAIL_FOR(kind, WRITE, fd);
    return REAL(send)(fd, octets, may_send(fd, kind, octets, length, failed == SHORT), flags);
}

ssize_t sendto(int fd, const void *octets, size_t length, int flags, const struct sockaddr *to, socklen_t size) {
    enum kind kind = kind_of(fd);
    FAIL_FOR(kind, WRITE, fd);
    return REAL(sendto)(fd, octets, may_send(fd, kind, octets, length, failed == SHORT), flags, to, size);
}

ssize_t read(int fd, void *octets, size_t length) {
    if (!control) return REAL(read)(fd, octets, length);
    enum kind kind = kind_of(fd);
    FAIL_FOR(kind, READ, fd);
    return REAL(read)(fd, octets, failed == SHORT ? half(length > 16 ? 16 : length) : length);
}

ssize_t pread64(int fd, void *octets, size_t length, off64_t at) {
    if (!control) return REAL(pread64)(fd, octets, length, at);
    FAIL_FOR(kind_of(fd), READ, -1);
    return REAL(pread64)(fd, octets, length, at);
}

ssize_t pread(int fd, void *octets, size_t length, off_t at) { return pread64(fd, octets, length, at); }

ssize_t recv(int fd, void *octets, size_t length, int flags) {
    enum kind kind = kind_of(fd);
    FAIL_FOR(kind, READ, fd);
    return REAL(recv)(fd, octets, failed == SHORT ? half(length > 16 ? 16 : length) : length, flags);
}

ssize_t recvfrom(int fd, void *octets, size_t length, int flags, struct sockaddr *from, socklen_t *size) {
    enum kind kind = kind_of(fd);
    FAIL_FOR(kind, READ, fd);
    return REAL(recvfrom)(fd, octets, failed == SHORT ? half(length > 16 ? 16 : length) : length, flags, from, size);
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
    FAIL_FOR(kind_of(fd), READ, fd);
    return REAL(recvmsg)(fd, message, flags);
}

static int synced(int fd, int is_data) {
    enum kind kind = kind_of(fd);
    FAIL_FOR(kind, SYNC, -1);
    if (control && control->lies) return 0;
    int records = is_recorded(kind) || (record && kind == FOLDER);
    if (records) lock();
    int done = is_data ? REAL(fdatasync)(fd) : REAL(fsync)(fd);
    int before = errno;
    if (records && !done)
        note(kind == FOLDER ? OP_SYNC_FOLDER : OP_SYNC, kind, inode_of(fd), 0, NULL, NULL, NULL, 0, 0);
    if (records) unlock();
    errno = before;
    return done;
}

int fsync(int fd) { return synced(fd, 0); }

int fdatasync(int fd) { return synced(fd, 1); }

int ftruncate64(int fd, off64_t length) {
    enum kind kind = kind_of(fd);
    FAIL_FOR(kind, TRUNCATE, -1);
    int records = is_recorded(kind);
    if (records) lock();
    int done = REAL(ftruncate64)(fd, length);
    int before = errno;
    if (records && !done) note(OP_TRUNCATE, kind, inode_of(fd), length, NULL, NULL, NULL, 0, 0);
    if (records) unlock();
    errno = before;
    return done;
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

static int opened(int folder, const char *path, int flags, mode_t mode) {
    if (!control) return REAL(openat64)(folder, path, flags, mode);
    enum kind kind = kind_of_path(path, flags);
    FAIL_FOR(kind, OPEN, -1);
    int records = is_recorded(kind) && (flags & O_ACCMODE) != O_RDONLY;
    struct stat before;
    if (records) lock();
    int is_new = records && stat(path, &before);
    int fd = REAL(openat64)(folder, path, flags, mode);
    int code = errno;
    forget(fd);
    if (records && fd >= 0 && is_new) note(OP_CREATE, kind, inode_of(fd), 0, path, NULL, NULL, 0, 0);
    if (records && fd >= 0 && !is_new && (flags & O_TRUNC))
        note(OP_TRUNCATE, kind, inode_of(fd), 0, NULL, NULL, NULL, 0, 0);
    if (records) unlock();
    errno = code;
    return fd;
}

#define MODE_OF(flags)                                                                                                  \
    mode_t mode = 0;                                                                                                    \
    if ((flags) & (O_CREAT | __O_TMPFILE)) {                                                                            \
        va_list more;                                                                                                   \
        va_start(more, flags);                                                                                          \
        mode = va_arg(more, mode_t);                                                                                    \
        va_end(more);                                                                                                   \
    }

int open64(const char *path, int flags, ...) {
    MODE_OF(flags)
    return opened(AT_FDCWD, path, flags, mode);
}

int open(const char *path, int flags, ...) {
    MODE_OF(flags)
    return opened(AT_FDCWD, path, flags, mode);
}

int openat64(int folder, const char *path, int flags, ...) {
    MODE_OF(flags)
    return opened(folder, path, flags, mode);
}

int openat(int folder, const char *path, int flags, ...) {
    MODE_OF(flags)
    return opened(folder, path, flags, mode);
}

static int renamed(int from, const char *path, int to, const char *target) {
    enum kind kind = control ? kind_of_path(target, 0) : OTHER;
    FAIL_FOR(kind, RENAME, -1);
    int records = is_recorded(kind);
    if (records) lock();
    int done = REAL(renameat)(from, path, to, target);
    int before = errno;
    if (records && !done) note(OP_RENAME, kind, 0, 0, path, target, NULL, 0, 0);
    if (records) unlock();
    errno = before;
    return done;
}

int rename(const char *path, const char *target) { return renamed(AT_FDCWD, path, AT_FDCWD, target); }

int renameat(int from, const char *path, int to, const char *target) { return renamed(from, path, to, target); }

int link(const char *path, const char *target) {
    enum kind kind = control ? kind_of_path(target, 0) : OTHER;
    FAIL_FOR(kind, LINK, -1);
    int records = is_recorded(kind);
    if (records) lock();
    int done = REAL(link)(path, target);
    int before = errno;
    if (records && !done) note(OP_LINK, kind, 0, 0, path, target, NULL, 0, 0);
    if (records) unlock();
    errno = before;
    return done;
}

int unlinkat(int folder, const char *path, int flags) {
    enum kind kind = control ? kind_of_path(path, 0) : OTHER;
    FAIL_FOR(kind, UNLINK, -1);
    int records = is_recorded(kind);
    if (records) lock();
    int done = REAL(unlinkat)(folder, path, flags);
    int before = errno;
    if (records && !done) note(OP_UNLINK, kind, 0, 0, path, NULL, NULL, 0, 0);
    if (records) unlock();
    errno = before;
    return done;
}

int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }

int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags) {
    FAIL_FOR(kind_of(fd), ACCEPT, -1);
    int done = REAL(accept4)(fd, address, length, flags);
    forget(done);
    return done;
}

int accept(int fd, struct sockaddr *address, socklen_t *length) { return accept4(fd, address, length, 0); }

int connect(int fd, const struct sockaddr *address, socklen_t length) {
    struct sockaddr_storage to = {0};
    memcpy(&to, address, length < sizeof to ? length : sizeof to);
    if (control && port_of(&to) && port_of(&to) == control->upstream_port) {
        FAIL_FOR(UPSTREAM, CONNECT, fd);
    }
    forget(fd);
    return REAL(connect)(fd, address, length);
}

int socket(int family, int type, int protocol) {
    int done = REAL(socket)(family, type, protocol);
    forget(done);
    return done;
}

int close(int fd) {
    forget(fd);
    return REAL(close)(fd);
}

int dup2(int fd, int to) {
    forget(to);
    return REAL(dup2)(fd, to);
}
