/* SPDX-License-Identifier: Apache-2.0 */
/* Names of segments, and which of them a directory has. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "segment_inside.h"

#define DIGITS 16

void segment_file_name(char name[SEGMENT_FILE_BYTES], uint64_t number, bool compressed)
{
	snprintf(name, SEGMENT_FILE_BYTES, "%0*" PRIu64 ".log%s", DIGITS, number, compressed ? ".zst" : "");
}

bool segment_file_number(const char *name, uint64_t *number, bool *compressed)
{
	char again[SEGMENT_FILE_BYTES];
	uint64_t n = 0;

	for (int i = 0; name[i] >= '0' && name[i] <= '9'; i++) {
		if (i == DIGITS)
			return false;
		n = n * 10 + (uint64_t)(name[i] - '0');
	}
	if (!n)
		return false;
	for (int i = 0; i < 2; i++) {
		segment_file_name(again, n, i);
		if (!strcmp(name, again)) {
			*number = n;
			*compressed = i;
			return true;
		}
	}
	return false;
}

static int by_number(const void *x, const void *y)
{
	const struct segment_listed *a = x, *b = y;

	return (a->number > b->number) - (a->number < b->number);
}

/* A segment may have two files for a moment: two entries become one. */
static size_t join(struct segment_listed *list, size_t count)
{
	size_t kept = 0;

	if (count)
		qsort(list, count, sizeof(*list), by_number);
	for (size_t i = 0; i < count; i++) {
		if (kept && list[kept - 1].number == list[i].number) {
			list[kept - 1].bytes += list[i].bytes;
			list[kept - 1].plain |= list[i].plain;
			list[kept - 1].compressed |= list[i].compressed;
		} else {
			list[kept++] = list[i];
		}
	}
	return kept;
}

static int append(struct segment_listed **list, size_t *count, size_t *room,
		  const struct segment_listed *one)
{
	if (*count == *room) {
		size_t more = *room ? *room * 2 : 64;
		struct segment_listed *grown = realloc(*list, more * sizeof(**list));

		if (!grown)
			return -ENOMEM;
		*list = grown;
		*room = more;
	}
	(*list)[(*count)++] = *one;
	return 0;
}

static int read_names(DIR *d, struct segment_listed **list, size_t *count)
{
	size_t room = 0;
	int r = 0;

	while (!r) {
		struct segment_listed one = { 0 };
		struct dirent *entry;
		struct stat st;
		bool compressed;

		errno = 0;
		entry = readdir(d);
		if (!entry)
			return -errno;
		if (!segment_file_number(entry->d_name, &one.number, &compressed) ||
		    fstatat(dirfd(d), entry->d_name, &st, 0) || !S_ISREG(st.st_mode))
			continue;
		one.bytes = (uint64_t)st.st_size;
		one.plain = !compressed;
		one.compressed = compressed;
		r = append(list, count, &room, &one);
	}
	return r;
}

int segment_list_next(const char *dir, uint64_t least, uint64_t *number)
{
	DIR *d = opendir(dir);
	struct dirent *entry;
	uint64_t n;
	bool compressed, found = false;

	if (!d)
		return -errno;
	while ((entry = readdir(d))) {
		if (!segment_file_number(entry->d_name, &n, &compressed) || n < least ||
		    (found && n > *number))
			continue;
		*number = n;
		found = true;
	}
	closedir(d);
	return found;
}

int segment_list(const char *dir, struct segment_listed **ret, size_t *count)
{
	struct segment_listed *list = NULL;
	DIR *d = opendir(dir);
	int r;

	*ret = NULL;
	*count = 0;
	if (!d)
		return -errno;
	r = read_names(d, &list, count);
	closedir(d);
	if (r) {
		free(list);
		*count = 0;
		return r;
	}
	*count = join(list, *count);
	*ret = list;
	return 0;
}
