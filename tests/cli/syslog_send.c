/* SPDX-License-Identifier: Apache-2.0 */
/*
 * syslog_send PATH COUNT : what syslog(3) does for a program that calls it COUNT times, but to a socket at PATH: the
 * same system calls and bytes (glibc's misc/syslog.c), LOG_PID, facility daemon, level by turns.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	long count = argc == 3 ? atol(argv[2]) : 0;

	if (argc != 3 || strlen(argv[1]) >= sizeof(addr.sun_path))
		return 2;
	strcpy(addr.sun_path, argv[1]);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr))) {
		perror(argv[1]);
		return 1;
	}
	for (long i = 0; i < count; i++) {
		char message[256], when[32];
		time_t now = time(NULL);
		struct tm tm;
		int n;

		strftime(when, sizeof(when), "%h %e %T", localtime_r(&now, &tm));
		n = snprintf(message, sizeof(message), "<%ld>%s syslog_send[%d]: call %ld", 24 + i % 8, when,
			     (int)getpid(), i);
		if (send(fd, message, (size_t)n, MSG_NOSIGNAL) != n) {
			perror("send");
			return 1;
		}
	}
	printf("%d\n", (int)getpid());
	return 0;
}
