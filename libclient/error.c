/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "shmalloc.h"

static const struct {
	int number;
	const char *text;
} meanings[] = {
	{0, "success"},
	{ENOENT, "no such arena or name, or no daemon at this socket"},
	{EEXIST, "arena or name exists already"},
	{EACCES, "the arena's permissions do not allow it"},
	{EPROTO, "made by another version of shmalloc"},
	{EXDEV, "the arena belongs to another pid namespace"},
	{ENOSPC, "no room left: /dev/shm, or the table of names, is full"},
	{EFBIG, "the arena is larger than a resource limit allows (ulimit -v, ulimit -f)"},
	{ETIMEDOUT, "the daemon did not answer within 2 s"},
	{ECONNREFUSED, "no daemon answers at this socket"},
	{ENOMEM, "no memory left: the arena, /dev/shm or the process's memory limit is full"},
	{EDQUOT, "the client's quota in this arena is used up"},
	{EINVAL, "invalid argument, or not a handle of this arena"},
	{EROFS, "the arena is attached read-only, or the object is a file's"},
	{EUSERS, "all client or thread slots of the arena are taken"},
	{ESTALE, "the object was freed, or its owner died"},
	{EPERM, "the object or record belongs to another"},
	{EBUSY, "taken, published or in use by another"},
	{EMSGSIZE, "the record is too long"},
	{EAGAIN, "the log is full and its policy is to drop"},
	{ENAMETOOLONG, "the name or path is too long"},
	{EUCLEAN, "not an arena, or a damaged one"},
	{EOWNERDEAD, "the arena was held by the daemon alone and went with it"},
	{ENODEV, "this machine has no such NUMA node, or the process may not use it"},
	{EOPNOTSUPP, "its memory cannot be bound to NUMA nodes: the kernel refuses policies, or has none for "
		     "such a file"},
	{ENODATA, "the object is packed: shma_read() reads it, shma_unpack() makes it plain again"},
	{EIO, "the file of the object was cut off, or cannot be read"},
	{ENFILE, "too many files are objects in use by this process, or open in the system"},
	{EMFILE, "too many arenas or files are open in this process"},
};

const char *shma_strerror(int err)
{
	int number = err < 0 && err >= -INT_MAX ? -err : err;
	const char *text;

	for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++)
		if (meanings[i].number == number)
			return meanings[i].text;
	text = strerrordesc_np(number); /* unlike strerror(), safe from several threads */
	return text ? text : "unknown error";
}
