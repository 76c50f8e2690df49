/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loaded into a daemon before the C library: a disk that fails and one that hangs. While the file $SHIM.eio exists
 * writes and syncs of files fail with EIO; while $SHIM.hang exists they do not return. If $SHIM.spoil exists, the first
 * block that is written has a bit changed before, as by a client that writes into it after its checksum was made; then
 * the file is removed. If $SHIM_NO_WAITV is set the kernel has no futex_waitv().
 */
#undef _FILE_OFFSET_BITS /* the plain names, and those with 64, are defined below */
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#define BLOCK_LEAST 2048 /* more than a header, in the test's rings */

#pragma GCC visibility push(default)

static int exists(const char *suffix)
{
	const char *base = getenv("SHIM");
	char path[4096];

	if (!base)
		return 0;
	snprintf(path, sizeof path, "%s.%s", base, suffix);
	return access(path, F_OK) == 0;
}

static int fails(void)
{
	while (exists("hang"))
		usleep(10000);
	if (!exists("eio"))
		return 0;
	errno = EIO;
	return 1;
}

static void spoil(const struct iovec *parts, int count)
{
	char path[4096];

	for (int i = 0; i < count && exists("spoil"); i++)
		if (parts[i].iov_len > BLOCK_LEAST) {
			((char *)parts[i].iov_base)[parts[i].iov_len / 2] ^= 1;
			snprintf(path, sizeof path, "%s.spoil", getenv("SHIM"));
			unlink(path);
		}
}

#define WRITEV(name) \
	ssize_t name(int fd, const struct iovec *parts, int count, off_t offset) \
	{ \
		ssize_t (*real)(int, const struct iovec *, int, off_t) = dlsym(RTLD_NEXT, #name); \
\
		spoil(parts, count); \
		return fails() ? -1 : real(fd, parts, count, offset); \
	}
#define WRITE(name) \
	ssize_t name(int fd, const void *data, size_t len, off_t offset) \
	{ \
		ssize_t (*real)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, #name); \
\
		return fails() ? -1 : real(fd, data, len, offset); \
	}

WRITEV(pwritev)
WRITEV(pwritev64)
WRITE(pwrite)
WRITE(pwrite64)

#define FUTEX_WAITV 449

/* All six, whatever was given: the real one reads as many as the call has. */
long syscall(long number, ...)
{
	long (*real)(long, long, long, long, long, long, long) = dlsym(RTLD_NEXT, "syscall");
	long args[6];
	va_list list;

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		args[i] = va_arg(list, long);
	va_end(list);
	if (number == FUTEX_WAITV && getenv("SHIM_NO_WAITV")) {
		errno = ENOSYS;
		return -1;
	}
	return real(number, args[0], args[1], args[2], args[3], args[4], args[5]);
}

int fdatasync(int fd)
{
	int (*real)(int) = dlsym(RTLD_NEXT, "fdatasync");

	return fails() ? -1 : real(fd);
}
