/* Load for bench/published_ports.py, compiled there: so little work beside the system calls that the kernel's part shows.

   load serve PORT                 answers each 64 bytes with 64, a single byte with a stream until the client goes
   load MODE CONNECTIONS SLICE_MS ROUNDS PORT (NAMESPACE ADDRESS)...
       asks servers in turns, a slice of time each, from the network namespaces given by path; prints a line for each
       slice: number of the server, requests, microseconds, bytes. MODE: keep (requests over connections that stay),
       new (a connection each), stream (bytes). Turns are short, so that what the machine does otherwise meets all alike. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char data[1 << 17];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static void fail(const char *what) { perror(what); exit(1); }

static void watch(int epoll, int fd, int events) {
    struct epoll_event e = {.events = events, .data.fd = fd};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e)) fail("epoll_ctl");
}

static void prompt(int fd) { setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)); }

static void serve(int port) {
    int listener = socket(AF_INET, SOCK_STREAM, 0), epoll = epoll_create1(0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(listener, (void *)&at, sizeof at) || listen(listener, 1024)) fail("listen");
    watch(epoll, listener, EPOLLIN);
    puts("ready");
    fflush(stdout);
    for (;;) {
        struct epoll_event found[64];
        int count = epoll_wait(epoll, found, 64, -1);
        for (int i = 0; i < count; i++) {
            int fd = found[i].data.fd;
            if (fd == listener) {
                if ((fd = accept(listener, 0, 0)) < 0) fail("accept");
                prompt(fd);
                watch(epoll, fd, EPOLLIN);
                continue;
            }
            ssize_t got = read(fd, data, 64);
            if (got == 1) while (write(fd, data, sizeof data) > 0);
            if (got <= 1 || write(fd, data, 64) != 64) close(fd);
        }
    }
}

static int dial(struct sockaddr_in *to) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (void *)to, sizeof *to)) fail("connect");
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger)); /* no TIME_WAIT in the way */
    prompt(fd);
    return fd;
}

struct target {
    int namespace, epoll;
    struct sockaddr_in address;
    int stream;
};

static void enter(struct target *t) {
    if (setns(t->namespace, CLONE_NEWNET)) fail("setns");
}

static void ask(int fd) {
    if (write(fd, data, 64) != 64) fail("write");
}

/* One slice of requests; every connection has one under way at all times. */
static long requests(struct target *t, int fresh, double end, double *at) {
    long done = 0;
    while ((*at = now()) < end) {
        struct epoll_event found[64];
        int ready = epoll_wait(t->epoll, found, 64, 1000);
        for (int i = 0; i < ready; i++) {
            int fd = found[i].data.fd;
            if (read(fd, data, 64) != 64) fail("read");
            done++;
            if (fresh) {
                close(fd);
                watch(t->epoll, fd = dial(&t->address), EPOLLIN);
            }
            ask(fd);
        }
    }
    return done;
}

/* A stream is read only in its own slice; what waits in buffers from before is read first, uncounted. */
static long stream(struct target *t, double end, double *at) {
    long bytes = 0;
    while ((*at = now()) < end) {
        ssize_t got = read(t->stream, data, sizeof data);
        if (got <= 0) fail("read");
        bytes += got;
    }
    return bytes;
}

int main(int count, char **word) {
    signal(SIGPIPE, SIG_IGN);
    if (count == 3) serve(atoi(word[2]));
    if (count < 8) return 2;
    int fresh = !strcmp(word[1], "new"), streams = !strcmp(word[1], "stream"), open_at_once = atoi(word[2]);
    int servers = (count - 6) / 2;
    double slice = atoi(word[3]) * 1e3;
    struct target targets[8];
    for (int i = 0; i < servers; i++) {
        struct target *t = &targets[i];
        t->namespace = open(word[6 + 2 * i], O_RDONLY);
        t->address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(word[5]))};
        if (t->namespace < 0 || !inet_aton(word[7 + 2 * i], &t->address.sin_addr)) fail(word[6 + 2 * i]);
        enter(t);
        t->epoll = epoll_create1(0);
        for (int n = 0; n < open_at_once && !streams; n++) {
            int fd = dial(&t->address);
            watch(t->epoll, fd, EPOLLIN);
            ask(fd);
        }
    }
    for (int round = 0; round < atoi(word[4]); round++)
        for (int turn = 0; turn < servers; turn++) {
            struct target *t = &targets[(turn + round) % servers];
            enter(t);
            double at, start = now();
            long done = 0, bytes = 0;
            if (streams) {
                t->stream = dial(&t->address);
                if (write(t->stream, "s", 1) != 1) fail("write");
                start = now();
                bytes = stream(t, start + slice, &at);
                close(t->stream);
            } else {
                done = requests(t, fresh, start + slice, &at);
            }
            printf("%d %ld %.0f %ld\n", (turn + round) % servers, done, at - start, bytes);
        }
    return 0;
}
