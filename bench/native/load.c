/* A load generator: so many connections to a unix socket, one request at a time on each.
 *
 *   load SOCKET CONNECTIONS SECONDS LINES TEMPLATE
 *
 * LINES is the number of line breaks in a whole answer. In the template file, %K becomes a fresh key of 32 hex digits
 * and %N the number of the connection, in two digits. Prints one JSON object: calls in the time measured (after half
 * a second that is not), their latency in microseconds, and how many answers held the word "problem" or began with '-'.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_MAX 65536
#define REQUEST_MAX 65536
#define SAMPLES_MAX 4000000
#define WARM_NS 500000000LL

struct peer {
    int fd, number, lines, bad;
    size_t unsent, length;
    int64_t began;
    char request[REQUEST_MAX];
};

static char template[REQUEST_MAX];
static size_t template_length;
static uint64_t run, count;
static uint32_t *samples;
static long sampled;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void write_request(struct peer *p) {
    char *out = p->request;
    for (size_t at = 0; at < template_length; at++) {
        if (template[at] == '%' && at + 1 < template_length && template[at + 1] == 'K') {
            out += sprintf(out, "%016llx%016llx", (unsigned long long)run, (unsigned long long)count++);
            at++;
        } else if (template[at] == '%' && at + 1 < template_length && template[at + 1] == 'N') {
            out += sprintf(out, "%02d", p->number % 100);
            at++;
        } else {
            *out++ = template[at];
        }
    }
    p->length = out - p->request;
    p->unsent = p->length;
    p->lines = 0;
    p->bad = 0;
    p->began = now_ns();
}

static void push(struct peer *p) {
    while (p->unsent) {
        ssize_t n = send(p->fd, p->request + p->length - p->unsent, p->unsent, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN) return;
            die("send");
        }
        p->unsent -= n;
    }
}

static int by_value(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv) {
    if (argc != 6) { fprintf(stderr, "usage: load SOCKET CONNECTIONS SECONDS LINES TEMPLATE\n"); return 2; }
    int connections = atoi(argv[2]), lines = atoi(argv[4]);
    double seconds = atof(argv[3]);
    int file = open(argv[5], O_RDONLY);
    if (file < 0) die(argv[5]);
    template_length = read(file, template, sizeof template);
    run = ((uint64_t)getpid() << 40) ^ (uint64_t)now_ns();
    samples = malloc(SAMPLES_MAX * sizeof *samples);
    struct peer *peers = calloc(connections, sizeof *peers);
    int poll = epoll_create1(0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
    for (int i = 0; i < connections; i++) {
        struct peer *p = &peers[i];
        p->number = i;
        p->fd = socket(AF_UNIX, SOCK_STREAM, 0);
        if (connect(p->fd, (struct sockaddr *)&address, sizeof address) < 0) die("connect");
        fcntl(p->fd, F_SETFL, O_NONBLOCK);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = p};
        epoll_ctl(poll, EPOLL_CTL_ADD, p->fd, &e);
        write_request(p);
        push(p);
    }
    int64_t measured_from = now_ns() + WARM_NS, until = measured_from + (int64_t)(seconds * 1e9), at = now_ns();
    long calls = 0, problems = 0;
    static char answer[ANSWER_MAX];
    struct epoll_event events[256];
    while (at < until) {
        int ready = epoll_wait(poll, events, 256, 100);
        for (int i = 0; i < ready; i++) {
            struct peer *p = events[i].data.ptr;
            ssize_t n = recv(p->fd, answer, sizeof answer, 0);
            if (n == 0) { fprintf(stderr, "the server hung up\n"); return 1; }
            if (n < 0) { if (errno == EAGAIN) continue; die("recv"); }
            if (!p->lines && (answer[0] == '-' || memmem(answer, n < 40 ? n : 40, "\"problem\"", 9))) p->bad = 1;
            for (char *end = answer; (end = memchr(end, '\n', answer + n - end)); end++) p->lines++;
            if (p->lines < lines && !p->bad) continue;
            at = now_ns();
            if (at >= measured_from && at < until) {
                calls++;
                problems += p->bad;
                if (sampled < SAMPLES_MAX) samples[sampled++] = (uint32_t)((at - p->began) / 1000);
            }
            write_request(p);
            push(p);
        }
        at = now_ns();
    }
    qsort(samples, sampled, sizeof *samples, by_value);
    printf("{\"calls\": %ld, \"seconds\": %.3f, \"p50_us\": %u, \"p99_us\": %u, \"problems\": %ld}\n", calls, seconds,
           sampled ? samples[sampled / 2] : 0, sampled ? samples[sampled * 99 / 100] : 0, problems);
    return 0;
}
