/* The epoll reference: edge-triggered for both directions, set once; one receive and one send for each
 * event of a small message.
 *
 * There is no second receive after a short one: it emptied the socket, and what comes later is a new
 * edge. (Only the end of the stream may share its edge with the last bytes; EPOLLRDHUP tells.) After a
 * few full receives the others get their turn, and arming again makes a new edge.
 *
 * All connections share one receive buffer and one output buffer, which stay in the cache; a connection
 * owns memory only while it holds part of a frame or bytes that the kernel does not take. While it
 * holds such bytes nothing is read, so TCP pushes back.
 */
#define _GNU_SOURCE
#include "common.h"

#include <sys/epoll.h>

enum { RECEIVE = 256 << 10, EVENTS = 512, FULL_RECEIVES = 8 };
enum { INTEREST = EPOLLIN | EPOLLOUT | EPOLLRDHUP | (int)EPOLLET };

struct connection {
    int fd;
    struct bytes partial; /* part of a frame, received */
    size_t wanted;        /* the size of that frame, 0 while unknown */
    struct bytes unsent;  /* echoed, and not taken by the kernel */
};

static int epoll;
static struct options options;
static uint8_t received[RECEIVE];
static struct bytes output; /* empty between events */

static void watch(struct connection *connection, int verb)
{
    struct epoll_event event = {.events = INTEREST, .data.ptr = connection};
    if (epoll_ctl(epoll, verb, connection->fd, &event) < 0)
        die("epoll_ctl");
}

static void drop(struct connection *connection)
{
    close(connection->fd);
    bytes_free(&connection->partial);
    bytes_free(&connection->unsent);
    free(connection);
}

static void accept_all(int listener)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR)
                return;
            die("accept");
        }
        struct connection *connection = calloc(1, sizeof *connection);
        if (!connection)
            die("memory");
        connection->fd = fd;
        watch(connection, EPOLL_CTL_ADD);
    }
}

/* Send; what is not taken is kept, and reading stops until it is. False: not all is sent, or the
 * connection is gone. */
static bool send_or_keep(struct connection *connection, const uint8_t *data, size_t size)
{
    ssize_t sent = send(connection->fd, data, size, MSG_NOSIGNAL);
    if (sent == (ssize_t)size)
        return true;
    if (sent < 0) {
        if (errno != EAGAIN) {
            drop(connection);
            return false;
        }
        sent = 0;
    }
    bytes_append(&connection->unsent, data + sent, size - (size_t)sent);
    return false;
}

/* Send what was kept. False: not all is sent, or the connection is gone. */
static bool send_kept(struct connection *connection)
{
    struct bytes *unsent = &connection->unsent;
    ssize_t sent = send(connection->fd, unsent->data + unsent->start, bytes_held(unsent), MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN)
            drop(connection);
        return false;
    }
    unsent->start += (size_t)sent;
    if (bytes_held(unsent) > 0)
        return false;
    unsent->start = unsent->end = 0;
    return true;
}

/* Cut `size` bytes at `data` into frames and echo them; keep the rest for later. False as above. */
static bool echo_framed(struct connection *connection, const uint8_t *data, size_t size)
{
    struct bytes *partial = &connection->partial;
    ssize_t used = echo_frames(data, size, &output, &connection->wanted);
    size_t ready = output.end;
    output.end = 0;
    if (used < 0) {
        drop(connection);
        return false;
    }
    if (data == received) {
        if ((size_t)used < size)
            bytes_append(partial, data + used, size - (size_t)used);
    } else {
        partial->start += (size_t)used;
        if (bytes_held(partial) == 0)
            partial->start = partial->end = 0;
    }
    return ready == 0 || send_or_keep(connection, output.data, ready);
}

/* One receive, and what follows from it. True: there may be more to receive at once. */
static bool receive_once(struct connection *connection, bool ending)
{
    struct bytes *partial = &connection->partial;
    size_t held = bytes_held(partial);
    uint8_t *into = received;
    size_t room = RECEIVE;
    if (held > 0) { /* go on behind the part that is there, as far as this frame needs or more */
        size_t missing = connection->wanted > held ? connection->wanted - held : 0;
        bytes_reserve(partial, missing > 4096 ? missing : 4096);
        into = partial->data + partial->end;
        room = partial->capacity - partial->end;
    }
    ssize_t got = recv(connection->fd, into, room, 0);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN)
            drop(connection);
        return false;
    }
    bool more = (size_t)got == room || ending;
    if (!options.framed)
        return send_or_keep(connection, received, (size_t)got) && more;
    if (held == 0)
        return echo_framed(connection, received, (size_t)got) && more;
    partial->end += (size_t)got;
    if (connection->wanted > bytes_held(partial))
        return more;
    return echo_framed(connection, partial->data + partial->start, bytes_held(partial)) && more;
}

static void on_event(struct connection *connection, uint32_t events)
{
    bool ending = events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
    if (bytes_held(&connection->unsent) > 0) {
        if (!send_kept(connection))
            return;
        ending = true; /* edges may have passed meanwhile: receive until there is nothing */
    } else if (!(events & EPOLLIN) && !ending) {
        return;
    }
    for (int i = 0; i < FULL_RECEIVES; i++)
        if (!receive_once(connection, ending))
            return;
    watch(connection, EPOLL_CTL_MOD);
}

int main(int argc, char **argv)
{
    struct epoll_event events[EVENTS];
    options = parse_options(argc, argv);
    prepare_process();
    int listener = listen_on(options.port, SOCK_NONBLOCK);
    struct epoll_event listening = {.events = EPOLLIN, .data.ptr = NULL};
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &listening) < 0)
        die("epoll");
    say_ready();
    for (;;) {
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        if (ready < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < ready; i++) {
            struct connection *connection = events[i].data.ptr;
            if (!connection)
                accept_all(listener);
            else
                on_event(connection, events[i].events);
        }
    }
}
