/* Many readers of one event stream over loopback TCP, in one process.
 *
 *   sse PORT REQUESTS_FILE CLIENTS EVENTS SECONDS
 *
 * REQUESTS_FILE holds whole HTTP requests, each ended by an empty line; client i sends request i modulo their number.
 * In the stream it looks for marks `@T<19 digits of monotonic ns>#<8 digits of a number>`: when an event was made, and
 * its place. Prints "ready" once every client has its first byte, and at the end one JSON object: deliveries, seconds
 * from the first event's making to the last delivery, latency in ms, how many came out of order or twice, how many are
 * missing. Ends when every client has EVENTS, or after SECONDS.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MARK 30 /* @T + 19 digits + # + 8 digits */
#define REQUESTS_MAX 512
#define SAMPLES_MAX 8000000

struct client {
    int fd, opened, kept, next;
    char tail[MARK];
};

static float *samples;
static long sampled, deliveries, disordered;
static int64_t first_made, last_seen, started;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int by_value(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

static int is_mark(const char *at) {
    if (at[0] != '@' || at[1] != 'T' || at[21] != '#') return 0;
    for (int i = 2; i < MARK; i++)
        if (i != 21 && (at[i] < '0' || at[i] > '9')) return 0;
    return 1;
}

static void scan(struct client *c, const char *data, ssize_t length, int64_t at) {
    for (ssize_t i = 0; i + MARK <= length; i++) {
        const char *found = memchr(data + i, '@', length - i - MARK + 1);
        if (!found) return;
        i = found - data;
        if (!is_mark(found)) continue;
        int64_t made = 0;
        for (int d = 2; d < 21; d++) made = made * 10 + (found[d] - '0');
        if (made < started) continue; /* of an earlier run, in the snapshot that a stream begins with */
        int number = atoi(found + 22);
        if (number != c->next) disordered++;
        c->next = number + 1;
        deliveries++;
        if (!first_made || made < first_made) first_made = made;
        last_seen = at;
        if (sampled < SAMPLES_MAX) samples[sampled++] = (at - made) / 1e6f;
        i += MARK - 1;
    }
}

int main(int argc, char **argv) {
    if (argc != 6) return 2;
    started = now_ns();
    int clients = atoi(argv[3]), events_wanted = atoi(argv[4]), requests = 0;
    static char file_text[1 << 20], *request[REQUESTS_MAX];
    int file = open(argv[2], O_RDONLY);
    ssize_t length = read(file, file_text, sizeof file_text - 1);
    for (char *at = file_text; at < file_text + length && requests < REQUESTS_MAX;) {
        char *end = strstr(at, "\r\n\r\n");
        if (!end) break;
        request[requests++] = strndup(at, end + 4 - at);
        at = end + 4;
    }
    samples = malloc(SAMPLES_MAX * sizeof *samples);
    struct client *all = calloc(clients, sizeof *all);
    int poll = epoll_create1(0), opened = 0, done = 0;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    for (int i = 0; i < clients; i++) {
        struct client *c = &all[i];
        c->fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0) { perror("connect"); return 1; }
        char *said = request[i % requests];
        if (send(c->fd, said, strlen(said), 0) < 0) { perror("send"); return 1; }
        fcntl(c->fd, F_SETFL, O_NONBLOCK);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(poll, EPOLL_CTL_ADD, c->fd, &e);
    }
    static char data[MARK + (1 << 20)];
    struct epoll_event events[256];
    int64_t until = now_ns() + (int64_t)(atof(argv[5]) * 1e9);
    while (done < clients && now_ns() < until) {
        int ready = epoll_wait(poll, events, 256, 100);
        for (int i = 0; i < ready; i++) {
            struct client *c = events[i].data.ptr;
            memcpy(data, c->tail, c->kept);
            ssize_t n = recv(c->fd, data + c->kept, sizeof data - MARK, 0);
            if (n < 0 && errno == EAGAIN) continue;
            if (n <= 0) { fprintf(stderr, "a stream ended\n"); return 1; }
            if (!c->opened) {
                c->opened = 1;
                if (strncmp(data, "HTTP/1.1 200", 12)) { fprintf(stderr, "%.200s\n", data); return 1; }
                if (++opened == clients) { printf("ready\n"); fflush(stdout); }
            }
            ssize_t held = c->kept + n;
            int before = c->next;
            scan(c, data, held, now_ns());
            if (before < events_wanted && c->next >= events_wanted) done++;
            c->kept = held < MARK - 1 ? held : MARK - 1;
            memmove(c->tail, data + held - c->kept, c->kept);
        }
    }
    qsort(samples, sampled, sizeof *samples, by_value);
    printf("{\"deliveries\": %ld, \"seconds\": %.4f, \"p50_ms\": %.2f, \"p99_ms\": %.2f, \"disordered\": %ld, \"missing\": %ld}\n",
           deliveries, (last_seen - first_made) / 1e9, sampled ? samples[sampled / 2] : 0,
           sampled ? samples[sampled * 99 / 100] : 0, disordered, (long)clients * events_wanted - deliveries);
    return 0;
}
