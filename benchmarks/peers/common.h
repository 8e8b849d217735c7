/* What the C peers share: the command line, the listening socket, growing buffers.
 *
 * The peers are the physical reference of the benchmarks: what an echo costs on this machine when
 * nothing but the kernel and plain C stands behind the socket. One thread, no library.
 *
 *   --port N     listen on 127.0.0.1:N
 *   --framed     4-byte big-endian length before each message: parse each frame, copy it to the
 *                output, one send for all frames of one read. Without it bytes are echoed as read.
 *   --broadcast, --every S   see epoll_many.c
 *
 * "ready" on standard output says that it listens. SIGTERM ends it.
 */
#ifndef WIREWAY_PEERS_COMMON_H
#define WIREWAY_PEERS_COMMON_H

#include <arpa/inet.h>
#include <errno.h>
#include <malloc.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEADER = 4, MAX_FRAME = 16 << 20, BACKLOG = 4096 };

struct options {
    uint16_t port;
    bool framed;
    bool broadcast;
    double every; /* seconds */
};

_Noreturn static inline void die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static inline struct options parse_options(int argc, char **argv)
{
    struct options options = {0};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--framed") == 0) {
            options.framed = true;
        } else if (strcmp(argv[i], "--broadcast") == 0) {
            options.broadcast = true;
        } else if (strcmp(argv[i], "--every") == 0 && i + 1 < argc) {
            options.every = atof(argv[++i]);
        } else if (strcmp(argv[i], "--port") == 0 && i + 1 < argc) {
            options.port = (uint16_t)atoi(argv[++i]);
        } else {
            fprintf(stderr, "usage: %s --port N [--framed | --broadcast | --every S]\n", argv[0]);
            exit(2);
        }
    }
    return options;
}

/* A socket that listens. TCP_NODELAY set here is inherited by every accepted socket. */
static inline int listen_on(uint16_t port, int flags)
{
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(port)};
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0)
        die("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&name, sizeof name) < 0) {
        fprintf(stderr, "port %u of 127.0.0.1: %s\n", port, strerror(errno));
        exit(1);
    }
    if (listen(fd, BACKLOG) < 0)
        die("listen");
    return fd;
}

/* As many descriptors as allowed; and big buffers come from the heap, not from mmap each time. */
static inline unsigned prepare_process(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    mallopt(M_MMAP_THRESHOLD, 64 << 20);
    mallopt(M_TRIM_THRESHOLD, 256 << 20);
    return (unsigned)limit.rlim_cur;
}

static inline void say_ready(void)
{
    puts("ready");
    fflush(stdout);
}

/* Bytes [start, end) of an allocation that grows. */
struct bytes {
    uint8_t *data;
    size_t start, end, capacity;
};

static inline size_t bytes_held(const struct bytes *bytes)
{
    return bytes->end - bytes->start;
}

/* Make room for `more` bytes behind the end. */
static inline void bytes_reserve(struct bytes *bytes, size_t more)
{
    size_t held = bytes_held(bytes);
    if (bytes->end + more <= bytes->capacity)
        return;
    if (bytes->start > 0) {
        memmove(bytes->data, bytes->data + bytes->start, held);
        bytes->start = 0;
        bytes->end = held;
    }
    if (held + more > bytes->capacity) {
        size_t capacity = bytes->capacity ? bytes->capacity : 4096;
        while (capacity < held + more)
            capacity *= 2;
        bytes->data = realloc(bytes->data, capacity);
        if (!bytes->data)
            die("memory");
        bytes->capacity = capacity;
    }
}

static inline void bytes_append(struct bytes *bytes, const void *data, size_t size)
{
    bytes_reserve(bytes, size);
    memcpy(bytes->data + bytes->end, data, size);
    bytes->end += size;
}

static inline void bytes_free(struct bytes *bytes)
{
    free(bytes->data);
    *bytes = (struct bytes){0};
}

/* The size of the frame at `data` with its header; 0 if even the header is not whole. */
static inline size_t frame_size(const uint8_t *data, size_t size)
{
    uint32_t length;
    if (size < HEADER)
        return 0;
    memcpy(&length, data, HEADER);
    return HEADER + (size_t)ntohl(length);
}

/* Copy each whole frame of `data` behind `out`. Returns the bytes used; `*wanted` is the size of the
 * frame that is not whole, 0 if there is none or its header is missing; -1 for a frame too large. */
static inline ssize_t echo_frames(const uint8_t *data, size_t size, struct bytes *out, size_t *wanted)
{
    size_t used = 0;
    bytes_reserve(out, size);
    for (;;) {
        size_t frame = frame_size(data + used, size - used);
        if (frame > HEADER + MAX_FRAME)
            return -1;
        if (frame == 0 || frame > size - used) {
            *wanted = frame;
            return (ssize_t)used;
        }
        memcpy(out->data + out->end, data + used, frame);
        out->end += frame;
        used += frame;
    }
}

#endif
