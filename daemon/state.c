/* SPDX-License-Identifier: Apache-2.0 */
#include "state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arena_file.h"

#define FIRST_LINE "shmalloc arena 1\n"
#define SUFFIX	   ".arena"
#define TEMPORARY  ".tmp"
#define FILE_BYTES (ARENA_NAME_BYTES + 16)

static const char *const phases[] = { "creating", "live", "destroying", NULL };
static const char *const backings[] = { "posix", "memfd", "hugetlb", "file", NULL };

/* ---- text ---- */

static void uuid_format(char text[33], const uint8_t uuid[16])
{
	for (int i = 0; i < 16; i++)
		snprintf(text + 2 * i, 3, "%02x", uuid[i]);
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int uuid_parse(const char *text, uint8_t uuid[16])
{
	if (strlen(text) != 32)
		return -EINVAL;
	for (int i = 0; i < 16; i++) {
		int high = hex(text[2 * i]), low = hex(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return -EINVAL;
		uuid[i] = (uint8_t)(high << 4 | low);
	}
	return 0;
}

int state_format(char text[STATE_TEXT_BYTES], const struct state_record *r)
{
	const struct arena_terms *t = &r->terms;
	char uuid[33];
	int n;

	if (r->phase > STATE_DESTROYING || t->backing > BACKING_FILE)
		return -EINVAL;
	uuid_format(uuid, r->uuid);
	n = snprintf(text, STATE_TEXT_BYTES,
		     FIRST_LINE "name=%s\nphase=%s\nuuid=%s\ncreated=%llu\nuid=%u\ngid=%u\n"
				"backing=%s\nmode=%o\ncapacity=%llu\nlog-capacity=%llu\n"
				"client-quota=%llu\nlog-policy=%u\nnuma-mode=%u\nnuma-nodes=%llu\n"
				"huge-mode=%u\nlog-clock=%u\ndebug-mode=%u\ndebug-every=%u\n",
		     r->name, phases[r->phase], uuid, (unsigned long long)r->created_ns, r->uid,
		     r->gid, backings[t->backing], t->mode, (unsigned long long)t->capacity,
		     (unsigned long long)t->log_capacity, (unsigned long long)t->client_quota,
		     t->log_policy, t->numa_mode, (unsigned long long)t->numa_nodes, t->huge_mode,
		     t->log_clock, t->debug_mode, t->debug_every);
	return n > 0 && n < STATE_TEXT_BYTES ? n : -EINVAL;
}

static int parse_word(const char *text, const char *const *words, uint32_t *ret)
{
	for (uint32_t i = 0; words[i]; i++) {
		if (strcmp(words[i], text) == 0) {
			*ret = i;
			return 0;
		}
	}
	return -EINVAL;
}

static int parse_u64(const char *text, int base, uint64_t *ret)
{
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	*ret = strtoull(text, &end, base);
	return errno || *end ? -EINVAL : 0;
}

static int parse_u32(const char *text, int base, uint32_t *ret)
{
	uint64_t value;

	if (parse_u64(text, base, &value) || value > UINT32_MAX)
		return -EINVAL;
	*ret = (uint32_t)value;
	return 0;
}

static int take_name(struct state_record *r, const char *value)
{
	int err = arena_name_check(value);

	if (!err)
		strcpy(r->name, value);
	return err;
}

static int take_phase(struct state_record *r, const char *value)
{
	uint32_t phase;
	int err = parse_word(value, phases, &phase);

	if (!err)
		r->phase = (enum state_phase)phase;
	return err;
}

static int take_terms(struct arena_terms *t, const char *key, const char *value)
{
	if (strcmp(key, "backing") == 0)
		return parse_word(value, backings, &t->backing);
	if (strcmp(key, "mode") == 0)
		return parse_u32(value, 8, &t->mode);
	if (strcmp(key, "capacity") == 0)
		return parse_u64(value, 10, &t->capacity);
	if (strcmp(key, "log-capacity") == 0)
		return parse_u64(value, 10, &t->log_capacity);
	if (strcmp(key, "client-quota") == 0)
		return parse_u64(value, 10, &t->client_quota);
	if (strcmp(key, "log-policy") == 0)
		return parse_u32(value, 10, &t->log_policy);
	if (strcmp(key, "numa-mode") == 0)
		return parse_u32(value, 10, &t->numa_mode);
	if (strcmp(key, "numa-nodes") == 0)
		return parse_u64(value, 10, &t->numa_nodes);
	if (strcmp(key, "huge-mode") == 0)
		return parse_u32(value, 10, &t->huge_mode);
	if (strcmp(key, "log-clock") == 0)
		return parse_u32(value, 10, &t->log_clock);
	if (strcmp(key, "debug-mode") == 0)
		return parse_u32(value, 10, &t->debug_mode);
	if (strcmp(key, "debug-every") == 0)
		return parse_u32(value, 10, &t->debug_every);
	return 0;
}

static int take_pair(struct state_record *r, const char *key, const char *value)
{
	if (strcmp(key, "name") == 0)
		return take_name(r, value);
	if (strcmp(key, "phase") == 0)
		return take_phase(r, value);
	if (strcmp(key, "uuid") == 0)
		return uuid_parse(value, r->uuid);
	if (strcmp(key, "created") == 0)
		return parse_u64(value, 10, &r->created_ns);
	if (strcmp(key, "uid") == 0)
		return parse_u32(value, 10, &r->uid);
	if (strcmp(key, "gid") == 0)
		return parse_u32(value, 10, &r->gid);
	return take_terms(&r->terms, key, value);
}

int state_parse(const char *text, struct state_record *ret)
{
	char copy[STATE_TEXT_BYTES];
	char *line, *rest = copy;
	int err = 0;

	memset(ret, 0, sizeof *ret);
	if (strncmp(text, FIRST_LINE, strlen(FIRST_LINE)) != 0)
		return -EINVAL;
	text += strlen(FIRST_LINE);
	if (strlen(text) >= sizeof copy)
		return -EINVAL;
	strcpy(copy, text);
	while (!err && (line = strsep(&rest, "\n")) && (rest || *line)) {
		char *value = strchr(line, '=');

		if (!value)
			return -EINVAL;
		*value++ = 0;
		err = take_pair(ret, line, value);
	}
	if (!err && !ret->name[0])
		err = -EINVAL;
	return err ? err : protocol_terms_check(&ret->terms);
}

/* ---- files ---- */

static int write_whole(int fd, const char *text, size_t length)
{
	while (length > 0) {
		ssize_t n = write(fd, text, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		text += n;
		length -= (size_t)n;
	}
	return fsync(fd) < 0 ? -errno : 0;
}

static int write_file(int dir, const char *file, const char *text, size_t length)
{
	int fd = openat(dir, file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	int err;

	if (fd < 0)
		return -errno;
	err = write_whole(fd, text, length);
	close(fd);
	if (err)
		unlinkat(dir, file, 0);
	return err;
}

int state_write(int dir, const struct state_record *record)
{
	char text[STATE_TEXT_BYTES], file[FILE_BYTES], temporary[FILE_BYTES];
	int n = state_format(text, record);
	int err;

	if (n < 0)
		return n;
	snprintf(file, sizeof file, "%s" SUFFIX, record->name);
	snprintf(temporary, sizeof temporary, "%s" TEMPORARY, record->name);
	err = write_file(dir, temporary, text, (size_t)n);
	if (err)
		return err;
	/* Crash: before the rename the old record stands, after it the new one; the temporary file is
	 * removed by the next scan. */
	if (renameat(dir, temporary, dir, file) < 0 || fsync(dir) < 0)
		return -errno;
	return 0;
}

int state_remove(int dir, const char *name)
{
	char file[FILE_BYTES];

	snprintf(file, sizeof file, "%s" SUFFIX, name);
	if (unlinkat(dir, file, 0) < 0 || fsync(dir) < 0)
		return -errno;
	return 0;
}

static bool ends_in(const char *text, const char *suffix)
{
	size_t length = strlen(text), s = strlen(suffix);

	return length > s && strcmp(text + length - s, suffix) == 0;
}

static int read_record(int dir, const char *file, struct state_record *ret)
{
	char text[STATE_TEXT_BYTES], expected[FILE_BYTES];
	int fd = openat(dir, file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	ssize_t n;
	int err;

	if (fd < 0)
		return -errno;
	n = read(fd, text, sizeof text - 1);
	err = n < 0 ? -errno : 0;
	close(fd);
	if (err)
		return err;
	text[n] = 0;
	err = state_parse(text, ret);
	if (err)
		return err;
	snprintf(expected, sizeof expected, "%s" SUFFIX, ret->name);
	return strcmp(expected, file) == 0 ? 0 : -EINVAL;
}

static void scan_file(int dir, const char *file,
		      void (*take)(void *user, const struct state_record *record),
		      void (*complain)(void *user, const char *file, int err), void *user)
{
	struct state_record record;
	int err;

	if (ends_in(file, TEMPORARY)) {
		unlinkat(dir, file, 0);
		return;
	}
	if (!ends_in(file, SUFFIX))
		return;
	err = read_record(dir, file, &record);
	if (err)
		complain(user, file, err);
	else
		take(user, &record);
}

int state_scan(int dir, void (*take)(void *user, const struct state_record *record),
	       void (*complain)(void *user, const char *file, int err), void *user)
{
	int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *entry;
	DIR *d;

	if (copy < 0)
		return -errno;
	d = fdopendir(copy);
	if (!d) {
		int err = errno;

		close(copy);
		return -err;
	}
	while ((entry = readdir(d)))
		scan_file(dir, entry->d_name, take, complain, user);
	closedir(d);
	return 0;
}
