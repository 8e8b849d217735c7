/* The epoll reference: level-triggered, one receive and one send for each readable event.
 *
 * There is no second receive after a short one: epoll reports what is left. All connections share one
 * receive buffer and one output buffer, which stay in the cache; a connection owns memory only while
 * it holds part of a frame or bytes that the kernel does not take. While it holds such bytes it is
 * watched for writing and not for reading, so TCP pushes back.
 */
#define _GNU_SOURCE
#include "common.h"

#include <sys/epoll.h>

enum { RECEIVE = 256 << 10, EVENTS = 512 };

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

static void watch(struct connection *connection, int verb, uint32_t interest)
{
    struct epoll_event event = {.events = interest, .data.ptr = connection};
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
        watch(connection, EPOLL_CTL_ADD, EPOLLIN);
    }
}

/* Send; what is not taken is kept, and reading stops until it is. False: the connection is gone. */
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
    watch(connection, EPOLL_CTL_MOD, EPOLLOUT);
    return true;
}

static void on_writable(struct connection *connection)
{
    struct bytes *unsent = &connection->unsent;
    ssize_t sent = send(connection->fd, unsent->data + unsent->start, bytes_held(unsent), MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN)
            drop(connection);
        return;
    }
    unsent->start += (size_t)sent;
    if (bytes_held(unsent) == 0) {
        unsent->start = unsent->end = 0;
        watch(connection, EPOLL_CTL_MOD, EPOLLIN);
    }
}

/* Cut `size` bytes at `data` into frames and echo them; keep the rest for later. */
static void echo_framed(struct connection *connection, const uint8_t *data, size_t size)
{
    struct bytes *partial = &connection->partial;
    ssize_t used = echo_frames(data, size, &output, &connection->wanted);
    size_t ready = output.end;
    output.end = 0;
    if (used < 0) {
        drop(connection);
        return;
    }
    if (data == received) {
        if ((size_t)used < size)
            bytes_append(partial, data + used, size - (size_t)used);
    } else {
        partial->start += (size_t)used;
        if (bytes_held(partial) == 0)
            partial->start = partial->end = 0;
    }
    if (ready > 0)
        send_or_keep(connection, output.data, ready);
}

static void on_readable(struct connection *connection)
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
        return;
    }
    if (!options.framed) {
        send_or_keep(connection, received, (size_t)got);
    } else if (held == 0) {
        echo_framed(connection, received, (size_t)got);
    } else {
        partial->end += (size_t)got;
        if (connection->wanted > bytes_held(partial))
            return;
        echo_framed(connection, partial->data + partial->start, bytes_held(partial));
    }
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
            else if (events[i].events & EPOLLOUT)
                on_writable(connection);
            else
                on_readable(connection);
        }
    }
}
