/* The io_uring reference: multishot accept and receive into provided buffers, one send in flight for
 * each connection, one system call for each turn.
 *
 * Raw: what was received is sent from the buffer it lies in, and the buffer goes back to the kernel
 * when it is sent; several waiting buffers leave in one sendmsg. Framed: frames are copied to the
 * connection's output and the buffer goes back at once; a frame that is not whole waits there, behind
 * the whole ones. What arrives while a send is in flight leaves with the next. Output memory is
 * handed on from connection to connection, so that it stays in the cache and idle ones own none.
 *
 *   turn: enter (submit, wait) -> completions -> one send for each connection with output -> again
 *
 * A connection ends when its receive has ended and all is sent; then its slot is closed.
 * When the kernel has no buffer left a receive ends with ENOBUFS and is started again once buffers
 * have come back: raw echo is held back by that, framed output is bounded only by what the peer sends
 * without reading. That is enough for a benchmark and not for a server.
 */
#define _GNU_SOURCE
#include "ring.h"

#include <sys/uio.h>

#ifndef BUFFER_SIZE
#define BUFFER_SIZE (128 << 10)
#endif
#ifndef BUFFERS
#define BUFFERS 256
#endif
#ifndef STOCK
#define STOCK 8
#endif

enum { ENTRIES = 1024, COMPLETIONS = 8192, MAX_CONNECTIONS = 16384, VECTORS = 16, SPARES = 256 };
enum { ACCEPT, RECEIVE, SEND, CLOSE, SHUTDOWN };

struct piece { /* received, to be sent from where it lies */
    uint16_t id, next;
    uint32_t start, end;
};

struct connection {
    bool open, receiving, sending, dirty, starved, failed;
    struct bytes output, in_flight;
    size_t whole; /* bytes of output that are whole frames */
    uint16_t first, last; /* pieces waiting to be sent, linked by buffer */
    unsigned pieces, pieces_in_flight;
    struct msghdr message;
    struct iovec *vectors;
};

static const uint16_t NONE = UINT16_MAX;
static struct ring ring;
static struct pool pool;
static struct options options;
static struct connection *connections;
static struct piece pieces[BUFFERS];
static uint32_t dirty[MAX_CONNECTIONS], starved[MAX_CONNECTIONS];
static unsigned dirty_count, starved_count;
static struct bytes spares[SPARES];
static unsigned spare_count;

static struct io_uring_sqe *prepare(unsigned operation, unsigned opcode, uint32_t slot)
{
    struct io_uring_sqe *sqe = ring_next(&ring);
    sqe->opcode = (uint8_t)opcode;
    sqe->fd = (int)slot;
    sqe->flags = IOSQE_FIXED_FILE;
    sqe->user_data = (uint64_t)operation << 32 | slot;
    return sqe;
}

static void start_accepting(int listener)
{
    struct io_uring_sqe *sqe = prepare(ACCEPT, IORING_OP_ACCEPT, (uint32_t)listener);
    sqe->flags = 0;
    sqe->ioprio = IORING_ACCEPT_MULTISHOT;
    sqe->file_index = IORING_FILE_INDEX_ALLOC;
}

static void start_receiving(uint32_t slot)
{
    struct io_uring_sqe *sqe = prepare(RECEIVE, IORING_OP_RECV, slot);
    sqe->ioprio = IORING_RECV_MULTISHOT;
    sqe->flags |= IOSQE_BUFFER_SELECT;
    connections[slot].receiving = true;
}

static struct bytes take_output(void)
{
    return spare_count > 0 ? spares[--spare_count] : (struct bytes){0};
}

static void release_output(struct bytes *output)
{
    output->start = output->end = 0;
    if (spare_count < SPARES)
        spares[spare_count++] = *output;
    else
        free(output->data);
    *output = (struct bytes){0};
}

static void start_sending(uint32_t slot)
{
    struct connection *connection = &connections[slot];
    struct io_uring_sqe *sqe;
    if (options.framed) {
        struct bytes sending = connection->output;
        connection->output = (struct bytes){0};
        if (sending.end > connection->whole) { /* part of a frame stays */
            connection->output = take_output();
            bytes_append(&connection->output, sending.data + connection->whole, sending.end - connection->whole);
        }
        sqe = prepare(SEND, IORING_OP_SEND, slot);
        sqe->addr = (uint64_t)(uintptr_t)sending.data;
        sqe->len = (uint32_t)connection->whole;
        connection->in_flight = sending;
        connection->whole = 0;
    } else if (connection->pieces == 1) {
        struct piece *piece = &pieces[connection->first];
        sqe = prepare(SEND, IORING_OP_SEND, slot);
        sqe->addr = (uint64_t)(uintptr_t)(pool_at(&pool, piece->id) + piece->start);
        sqe->len = piece->end - piece->start;
        connection->pieces_in_flight = 1;
    } else {
        unsigned count = 0;
        if (!connection->vectors && !(connection->vectors = malloc(VECTORS * sizeof(struct iovec))))
            die("memory");
        for (uint16_t id = connection->first; id != NONE && count < VECTORS; id = pieces[id].next, count++) {
            connection->vectors[count].iov_base = pool_at(&pool, id) + pieces[id].start;
            connection->vectors[count].iov_len = pieces[id].end - pieces[id].start;
        }
        connection->message = (struct msghdr){.msg_iov = connection->vectors, .msg_iovlen = count};
        connection->pieces_in_flight = count;
        sqe = prepare(SEND, IORING_OP_SENDMSG, slot);
        sqe->addr = (uint64_t)(uintptr_t)&connection->message;
        sqe->len = 1;
    }
    sqe->msg_flags = MSG_NOSIGNAL | MSG_WAITALL; /* whole, or an error: the kernel goes on after a short send */
    connection->sending = true;
}

static void mark_dirty(uint32_t slot)
{
    if (!connections[slot].dirty) {
        connections[slot].dirty = true;
        dirty[dirty_count++] = slot;
    }
}

static void close_if_done(uint32_t slot)
{
    struct connection *connection = &connections[slot];
    bool unsent = !connection->failed && (connection->whole > 0 || connection->pieces > 0);
    if (!connection->open || connection->receiving || connection->sending || connection->starved || unsent)
        return;
    for (uint16_t id = connection->first; id != NONE; id = pieces[id].next)
        pool_release(&pool, id);
    release_output(&connection->output);
    free(connection->vectors);
    connection->open = false;
    struct io_uring_sqe *sqe = prepare(CLOSE, IORING_OP_CLOSE, 0);
    sqe->flags = 0;
    sqe->file_index = slot + 1;
}

static void on_accept(int listener, const struct io_uring_cqe *cqe)
{
    if (cqe->res >= 0) {
        uint32_t slot = (uint32_t)cqe->res;
        bool was_dirty = connections[slot].dirty;
        connections[slot] = (struct connection){.open = true, .dirty = was_dirty, .first = NONE, .last = NONE};
        start_receiving(slot);
    } else if (cqe->res != -ECONNABORTED && cqe->res != -EINTR) {
        errno = -cqe->res;
        die("accept");
    }
    if (!(cqe->flags & IORING_CQE_F_MORE))
        start_accepting(listener);
}

/* Cut the bytes received into frames. False: a frame too large. */
static bool take_frames(struct connection *connection, const uint8_t *data, size_t size)
{
    struct bytes *output = &connection->output;
    size_t wanted = 0, held;
    if (!output->data)
        *output = take_output();
    while ((held = output->end - connection->whole) > 0 && size > 0) { /* first the frame that is not whole */
        size_t frame = frame_size(output->data + connection->whole, held);
        if (frame > HEADER + MAX_FRAME)
            return false;
        size_t missing = (frame ? frame : HEADER) - held;
        size_t piece = missing < size ? missing : size;
        bytes_append(output, data, piece);
        data += piece;
        size -= piece;
        if (piece == missing && (frame || frame_size(output->data + connection->whole, HEADER) == HEADER))
            connection->whole = output->end;
    }
    if (size == 0)
        return true;
    ssize_t used = echo_frames(data, size, output, &wanted);
    if (used < 0)
        return false;
    connection->whole = output->end;
    if (wanted > 0)
        bytes_reserve(output, wanted);
    bytes_append(output, data + used, size - (size_t)used);
    return true;
}

static void on_receive(uint32_t slot, const struct io_uring_cqe *cqe)
{
    struct connection *connection = &connections[slot];
    if (cqe->res > 0) {
        uint16_t id = (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
        pool_taken(&pool);
        if (options.framed) {
            bool good = take_frames(connection, pool_at(&pool, id), (size_t)cqe->res);
            pool_release(&pool, id);
            connection->failed |= !good;
            if (!good)
                prepare(SHUTDOWN, IORING_OP_SHUTDOWN, slot)->len = SHUT_RDWR;
            else if (connection->whole > 0)
                mark_dirty(slot);
        } else {
            pieces[id] = (struct piece){.id = id, .next = NONE, .end = (uint32_t)cqe->res};
            if (connection->first == NONE)
                connection->first = id;
            else
                pieces[connection->last].next = id;
            connection->last = id;
            connection->pieces++;
            mark_dirty(slot);
        }
    }
    if (cqe->flags & IORING_CQE_F_MORE)
        return;
    connection->receiving = false;
    if (cqe->res > 0) {
        start_receiving(slot);
    } else if (cqe->res == -ENOBUFS) {
        pool_grow(&pool);
        connection->starved = true;
        starved[starved_count++] = slot;
    } else {
        close_if_done(slot);
    }
}

static void on_send(uint32_t slot, const struct io_uring_cqe *cqe)
{
    struct connection *connection = &connections[slot];
    connection->sending = false;
    if (connection->in_flight.data)
        release_output(&connection->in_flight);
    for (; connection->pieces_in_flight > 0; connection->pieces_in_flight--, connection->pieces--) {
        uint16_t id = connection->first;
        connection->first = pieces[id].next;
        pool_release(&pool, id);
    }
    if (cqe->res <= 0)
        connection->failed = true;
    if (connection->failed && connection->receiving) /* the receive ends too, and with it the connection */
        prepare(SHUTDOWN, IORING_OP_SHUTDOWN, slot)->len = SHUT_RDWR;
    else if (connection->whole > 0 || connection->pieces > 0)
        mark_dirty(slot);
    close_if_done(slot);
}

static void finish_turn(void)
{
    for (unsigned i = 0; i < dirty_count; i++) {
        struct connection *connection = &connections[dirty[i]];
        connection->dirty = false;
        if (connection->open && !connection->sending && (connection->whole > 0 || connection->pieces > 0))
            start_sending(dirty[i]);
    }
    dirty_count = 0;
    if (!pool_refill(&pool))
        return;
    for (unsigned i = 0; i < starved_count; i++) {
        connections[starved[i]].starved = false;
        start_receiving(starved[i]);
    }
    starved_count = 0;
}

int main(int argc, char **argv)
{
    options = parse_options(argc, argv);
    unsigned files = prepare_process();
    files = files < MAX_CONNECTIONS ? files : MAX_CONNECTIONS;
    connections = calloc(MAX_CONNECTIONS, sizeof *connections);
    if (!connections)
        die("memory");
    int listener = listen_on(options.port, 0);
    ring_open(&ring, ENTRIES, COMPLETIONS, files);
    pool_open(&pool, &ring, BUFFERS, STOCK, BUFFER_SIZE);
    start_accepting(listener);
    say_ready();
    for (;;) {
        ring_enter(&ring, 1);
        unsigned head = *ring.cq_head, tail = __atomic_load_n(ring.cq_tail, __ATOMIC_ACQUIRE);
        for (; head != tail; head++) {
            const struct io_uring_cqe *cqe = &ring.cqes[head & ring.cq_mask];
            uint32_t slot = (uint32_t)cqe->user_data;
            switch (cqe->user_data >> 32) {
            case ACCEPT: on_accept(listener, cqe); break;
            case RECEIVE: on_receive(slot, cqe); break;
            case SEND: on_send(slot, cqe); break;
            default: break;
            }
        }
        __atomic_store_n(ring.cq_head, head, __ATOMIC_RELEASE);
        finish_turn();
    }
}
