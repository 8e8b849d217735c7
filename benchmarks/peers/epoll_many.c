/* The epoll reference for many connections that mostly wait: what a broadcast and what heartbeats cost when
 * only the kernel and plain C stand behind the sockets.
 *
 *   --broadcast   the whole frames of one receive go to every other connection, in one send each
 *   --every S     frames are echoed; every S seconds each connection is sent "ping", and "pong" is swallowed;
 *                 who does not answer until the next is closed
 *
 * All intervals are equal, so the connections in the order of their next ping are a list: the first is due
 * first, and who was pinged goes to the end.
 *
 * Level-triggered, one receive for each event. A peer that does not take what it is sent is closed: the load
 * generator always does.
 */
#define _GNU_SOURCE
#include "common.h"

#include <math.h>
#include <sys/epoll.h>
#include <time.h>

enum { RECEIVE = 64 << 10, EVENTS = 512 };

static const uint8_t PING[] = {0, 0, 0, 4, 'p', 'i', 'n', 'g'}, PONG[] = {0, 0, 0, 4, 'p', 'o', 'n', 'g'};

struct connection {
    int fd;
    bool answered;
    size_t place;         /* among all */
    struct bytes partial; /* part of a frame, received */
    double due;           /* its next ping, seconds */
    struct connection *before, *after;
};

static int epoll;
static struct options options;
static struct connection **all, ring = {.before = &ring, .after = &ring};
static size_t count, room;
static double now;

static void tell_time(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    now = (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void unlink_ping(struct connection *connection)
{
    connection->before->after = connection->after;
    connection->after->before = connection->before;
}

static void link_ping(struct connection *connection)
{
    connection->due = now + options.every;
    connection->before = ring.before;
    connection->after = &ring;
    ring.before->after = connection;
    ring.before = connection;
}

static void drop(struct connection *connection)
{
    close(connection->fd);
    bytes_free(&connection->partial);
    unlink_ping(connection);
    all[connection->place] = all[--count];
    all[connection->place]->place = connection->place;
    free(connection);
}

static bool give(const struct connection *connection, const uint8_t *data, size_t size)
{
    return send(connection->fd, data, size, MSG_NOSIGNAL) == (ssize_t)size;
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
        if (count == room) {
            room = room ? 2 * room : 1024;
            all = realloc(all, room * sizeof *all);
        }
        struct connection *connection = calloc(1, sizeof *connection);
        if (!connection || !all)
            die("memory");
        *connection = (struct connection){.fd = fd, .answered = true, .place = count};
        all[count++] = connection;
        link_ping(connection);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
            die("epoll_ctl");
    }
}

static void to_all_others(const struct connection *speaker, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < count; i++)
        if (all[i] != speaker && !give(all[i], data, size))
            shutdown(all[i]->fd, SHUT_RDWR); /* its event drops it */
}

/* Deal with each whole frame of `data`. Returns the bytes used. */
static size_t on_frames(struct connection *connection, const uint8_t *data, size_t size)
{
    size_t used = 0, frame;
    while ((frame = frame_size(data + used, size - used)) != 0 && frame <= size - used) {
        if (!options.broadcast) {
            connection->answered = true;
            if (frame != sizeof PONG || memcmp(data + used, PONG, frame) != 0)
                give(connection, data + used, frame);
        }
        used += frame;
    }
    if (options.broadcast && used > 0)
        to_all_others(connection, data, used);
    return used;
}

static void on_readable(struct connection *connection)
{
    static uint8_t received[RECEIVE];
    struct bytes *partial = &connection->partial;
    ssize_t got = recv(connection->fd, received, RECEIVE, 0);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN)
            drop(connection);
        return;
    }
    if (bytes_held(partial) == 0) {
        size_t used = on_frames(connection, received, (size_t)got);
        if (used < (size_t)got)
            bytes_append(partial, received + used, (size_t)got - used);
        return;
    }
    bytes_append(partial, received, (size_t)got);
    partial->start += on_frames(connection, partial->data + partial->start, bytes_held(partial));
    if (bytes_held(partial) == 0)
        bytes_free(partial);
}

static void ping_who_is_due(void)
{
    struct connection *first;
    while ((first = ring.after) != &ring && first->due <= now) {
        if (!first->answered || !give(first, PING, sizeof PING)) {
            drop(first);
            continue;
        }
        first->answered = false;
        unlink_ping(first);
        link_ping(first);
    }
}

static int patience(void)
{
    if (options.every <= 0 || ring.after == &ring)
        return -1;
    double left = ring.after->due - now;
    return left > 0 ? (int)ceil(left * 1000) : 0;
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
        int ready = epoll_wait(epoll, events, EVENTS, patience());
        if (ready < 0 && errno != EINTR)
            die("epoll_wait");
        tell_time();
        for (int i = 0; i < ready; i++) {
            struct connection *connection = events[i].data.ptr;
            if (!connection)
                accept_all(listener);
            else
                on_readable(connection);
        }
        if (options.every > 0)
            ping_who_is_due();
    }
}
