/* A small io_uring: the three system calls, the two rings, and a ring of provided buffers.
 *
 * Single issuer, deferred task work: completions are only made inside io_uring_enter, so one call
 * submits, waits and reaps. The ring's descriptor and the sockets are registered, which spares the
 * kernel a look-up in the descriptor table for each call and each operation.
 *
 * Knows no echo. Constants that Debian 12's headers do not have yet are defined here.
 */
#ifndef WIREWAY_PEERS_RING_H
#define WIREWAY_PEERS_RING_H

#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "common.h"

struct ring {
    int fd, registered; /* the descriptor, and its place among the registered ones */
    unsigned *sq_tail, *sq_head, sq_mask, sq_entries, to_submit, tail;
    struct io_uring_sqe *sqes;
    unsigned *cq_head, *cq_tail, cq_mask;
    struct io_uring_cqe *cqes;
    unsigned *sq_flags;
};

static inline int ring_register(struct ring *ring, unsigned what, void *argument, unsigned count)
{
    return (int)syscall(__NR_io_uring_register, ring->fd, what, argument, count);
}

static inline void ring_open(struct ring *ring, unsigned entries, unsigned completions, unsigned files)
{
    struct io_uring_params params = {0};
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE |
                   IORING_SETUP_SUBMIT_ALL;
    params.cq_entries = completions;
    ring->fd = (int)syscall(__NR_io_uring_setup, entries, &params);
    if (ring->fd < 0)
        die("io_uring_setup");
    size_t sq_size = params.sq_off.array + params.sq_entries * sizeof(unsigned);
    size_t cq_size = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
    size_t size = sq_size > cq_size ? sq_size : cq_size;
    uint8_t *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd, IORING_OFF_SQ_RING);
    ring->sqes = mmap(NULL, params.sq_entries * sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_POPULATE, ring->fd, IORING_OFF_SQES);
    if (base == MAP_FAILED || ring->sqes == MAP_FAILED)
        die("mmap of the rings");
    ring->sq_head = (unsigned *)(base + params.sq_off.head);
    ring->sq_tail = (unsigned *)(base + params.sq_off.tail);
    ring->sq_flags = (unsigned *)(base + params.sq_off.flags);
    ring->sq_mask = *(unsigned *)(base + params.sq_off.ring_mask);
    ring->sq_entries = params.sq_entries;
    unsigned *array = (unsigned *)(base + params.sq_off.array);
    for (unsigned i = 0; i < params.sq_entries; i++)
        array[i] = i;
    ring->cq_head = (unsigned *)(base + params.cq_off.head);
    ring->cq_tail = (unsigned *)(base + params.cq_off.tail);
    ring->cq_mask = *(unsigned *)(base + params.cq_off.ring_mask);
    ring->cqes = (struct io_uring_cqe *)(base + params.cq_off.cqes);

    struct io_uring_rsrc_register table = {.nr = files, .flags = IORING_RSRC_REGISTER_SPARSE};
    if (ring_register(ring, IORING_REGISTER_FILES2, &table, sizeof table) < 0)
        die("registering a table of sockets");
    struct io_uring_rsrc_update self = {.offset = ~0u, .data = (uint64_t)ring->fd};
    if (ring_register(ring, IORING_REGISTER_RING_FDS, &self, 1) != 1)
        die("registering the ring");
    ring->registered = (int)self.offset;
}

/* Submit what is queued and wait for at least `wanted` completions. */
static inline void ring_enter(struct ring *ring, unsigned wanted)
{
    __atomic_store_n(ring->sq_tail, ring->tail, __ATOMIC_RELEASE);
    for (;;) {
        long done = syscall(__NR_io_uring_enter, ring->registered, ring->to_submit, wanted,
                            IORING_ENTER_GETEVENTS | IORING_ENTER_REGISTERED_RING, NULL, 0);
        if (done >= 0) {
            ring->to_submit -= (unsigned)done;
            return;
        }
        if (errno != EINTR && errno != EBUSY && errno != EAGAIN)
            die("io_uring_enter");
    }
}

/* A cleared entry for one operation. A full queue is submitted first. */
static inline struct io_uring_sqe *ring_next(struct ring *ring)
{
    if (ring->tail - __atomic_load_n(ring->sq_head, __ATOMIC_ACQUIRE) == ring->sq_entries)
        ring_enter(ring, 0);
    struct io_uring_sqe *sqe = &ring->sqes[ring->tail++ & ring->sq_mask];
    ring->to_submit++;
    memset(sqe, 0, sizeof *sqe);
    return sqe;
}

/* Buffers that the kernel fills.
 *
 * The kernel takes them in the order in which they were given, so all that it is given take turns and
 * push each other out of the cache. It is therefore given few at a time, those used last first, and
 * more only after it once ran out of them.
 *
 * The stride is not a power of two: small messages use only the beginning of each buffer, and at a
 * stride of 128 KiB all those beginnings would compete for the same few sets of the cache.
 */
struct pool {
    struct io_uring_buf_ring *shared;
    uint8_t *memory;
    uint16_t *free; /* a stack */
    uint16_t tail, count, free_count;
    uint16_t given, stock; /* how many the kernel has, and how many it shall have */
    unsigned size, stride;
};

static inline uint8_t *pool_at(struct pool *pool, uint16_t id)
{
    return pool->memory + (size_t)id * pool->stride;
}

/* A buffer is free again. */
static inline void pool_release(struct pool *pool, uint16_t id)
{
    pool->free[pool->free_count++] = id;
}

/* The kernel has filled one. */
static inline void pool_taken(struct pool *pool)
{
    pool->given--;
}

/* The kernel ran out: let it have more from now on. */
static inline void pool_grow(struct pool *pool)
{
    if (pool->given == 0 && pool->stock < pool->count)
        pool->stock *= 2;
}

/* Give the kernel what it shall have, as far as there are any. True: it has some. */
static inline bool pool_refill(struct pool *pool)
{
    uint16_t before = pool->tail;
    for (; pool->given < pool->stock && pool->free_count > 0; pool->given++) {
        uint16_t id = pool->free[--pool->free_count];
        struct io_uring_buf *slot = &pool->shared->bufs[pool->tail++ & (pool->count - 1)];
        slot->addr = (uint64_t)(uintptr_t)pool_at(pool, id);
        slot->len = pool->size;
        slot->bid = id;
    }
    if (pool->tail != before)
        __atomic_store_n(&pool->shared->tail, pool->tail, __ATOMIC_RELEASE);
    return pool->given > 0;
}

static inline void pool_open(struct pool *pool, struct ring *ring, uint16_t count, uint16_t stock, unsigned size)
{
    *pool = (struct pool){.count = count, .stock = stock, .size = size, .stride = size + 4096 + 256};
    pool->shared = mmap(NULL, count * sizeof(struct io_uring_buf), PROT_READ | PROT_WRITE,
                        MAP_ANONYMOUS | MAP_PRIVATE | MAP_POPULATE, -1, 0);
    pool->memory = mmap(NULL, (size_t)count * pool->stride, PROT_READ | PROT_WRITE,
                        MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
    pool->free = calloc(count, sizeof *pool->free);
    if (pool->shared == MAP_FAILED || pool->memory == MAP_FAILED || !pool->free)
        die("memory");
    struct io_uring_buf_reg group = {.ring_addr = (uint64_t)(uintptr_t)pool->shared, .ring_entries = count};
    if (ring_register(ring, IORING_REGISTER_PBUF_RING, &group, 1) < 0)
        die("registering buffers");
    for (unsigned id = count; id-- > 0;)
        pool_release(pool, (uint16_t)id);
    pool_refill(pool);
}

#endif
