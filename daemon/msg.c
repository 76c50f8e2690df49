/* SPDX-License-Identifier: Apache-2.0 */
#include "msg.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES 1024 /* below PIPE_BUF: a pipe that polls writable takes it whole */

enum target { TO_STDERR, TO_JOURNAL, TO_FILE, TO_SYSLOG };

static struct {
	enum target target;
	int fd;
	int level;
	unsigned long dropped;
} out = { .target = TO_STDERR, .fd = STDERR_FILENO, .level = LOG_INFO };

void msg_level(int level)
{
	out.level = level;
}

/* $JOURNAL_STREAM names the device and inode that the service manager gave as stderr. */
void msg_to_stderr(void)
{
	const char *journal = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	out.fd = STDERR_FILENO;
	out.target = TO_STDERR;
	if (!journal || sscanf(journal, "%llu:%llu", &dev, &ino) != 2)
		return;
	if (fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == ino)
		out.target = TO_JOURNAL;
}

static int open_syslog(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX, .sun_path = "/dev/log" };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int err;

	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&addr, sizeof addr) == 0)
		return fd;
	err = errno;
	close(fd);
	return -err;
}

int msg_to_file(const char *path)
{
	int fd = path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640)
		      : open_syslog();

	if (path && fd < 0)
		fd = -errno;
	if (out.fd > STDERR_FILENO)
		close(out.fd);
	out.fd = fd < 0 ? -1 : fd;
	out.target = path ? TO_FILE : TO_SYSLOG;
	return fd < 0 ? fd : 0;
}

static int prefix(char *line, size_t size, int level)
{
	struct tm tm;
	time_t now;

	switch (out.target) {
	case TO_JOURNAL: return snprintf(line, size, "<%d>", level);
	case TO_SYSLOG:
		return snprintf(line, size, "<%d>shmallocd[%d]: ", LOG_DAEMON | level,
				(int)getpid());
	case TO_FILE:
		now = time(NULL);
		gmtime_r(&now, &tm);
		return (int)strftime(line, size, "%Y-%m-%dT%H:%M:%SZ shmallocd: ", &tm);
	case TO_STDERR: break;
	}
	return snprintf(line, size, "shmallocd: ");
}

static bool put(const char *line, size_t length)
{
	struct pollfd p = { .fd = out.fd, .events = POLLOUT };

	/* A pipe or terminal that nobody reads would stop the loop, and with it everybody's deaths. */
	if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT))
		return false;
	return write(out.fd, line, length) == (ssize_t)length;
}

static void finish(char *line, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if ((unsigned char)line[i] < ' ')
			line[i] = '?'; /* names come from peers */
	line[length++] = '\n';
	if (!put(line, length))
		out.dropped++;
}

static void report_dropped(void)
{
	char line[128];
	int n = prefix(line, sizeof line, LOG_WARNING);

	n += snprintf(line + n, sizeof line - (size_t)n - 1, "%lu messages were dropped",
		      out.dropped);
	line[n++] = '\n';
	if (put(line, (size_t)n))
		out.dropped = 0;
}

void msg_print(int level, const char *format, ...)
{
	int saved = errno;
	char line[LINE_BYTES];
	va_list args;
	int n, m;

	if (level > out.level)
		return;
	if (out.dropped)
		report_dropped();
	n = prefix(line, sizeof line, level);
	va_start(args, format);
	m = vsnprintf(line + n, sizeof line - (size_t)n - 1, format, args);
	va_end(args);
	if (m > 0)
		n += m < (int)sizeof line - n - 2 ? m : (int)sizeof line - n - 2;
	finish(line, (size_t)n);
	errno = saved;
}
