/* The fastest answer there is: an epoll loop that sends the same bytes for every line it gets.
 *
 *   echo SOCKET ANSWER_FILE
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    static char answer[65536], data[65536];
    int file = open(argv[2], O_RDONLY);
    ssize_t length = read(file, answer, sizeof answer);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), poll = epoll_create1(0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
    unlink(argv[1]);
    if (length <= 0 || bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 512) < 0) {
        perror(argv[1]);
        return 1;
    }
    struct epoll_event e = {.events = EPOLLIN, .data.fd = listener}, events[256];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &e);
    for (;;) {
        int ready = epoll_wait(poll, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                e.data.fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                epoll_ctl(poll, EPOLL_CTL_ADD, e.data.fd, &e);
                continue;
            }
            ssize_t n = recv(fd, data, sizeof data, 0);
            if (n <= 0) {
                close(fd);
                continue;
            }
            for (char *end = data; (end = memchr(end, '\n', data + n - end)); end++)
                if (send(fd, answer, length, MSG_NOSIGNAL) != length) close(fd);
        }
    }
}
