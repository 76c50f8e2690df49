/* SPDX-License-Identifier: Apache-2.0 */
#include "huge.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define SHMEM_ENABLED "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
#define HUGE_SIZE (UINT64_C(2) << 20)
#define TMPFS_MAGIC_NUMBER 0x01021994
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

void huge_apply(struct arena *a, const struct arena_header *h)
{
	if (h->huge_mode == HUGE_PAGES_NEVER || a->files.heap_fd >= 0) {
		madvise(a->heap, a->g.capacity, MADV_NOHUGEPAGE);
		return;
	}
	if (madvise(a->heap, a->g.capacity, MADV_HUGEPAGE) < 0)
		return;
	a->commit_by_touch = !a->readonly;
	a->commit_huge = !a->readonly && h->huge_mode == HUGE_PAGES_ALWAYS;
}

/* ---- settings ---- */

/* A small file's text; "" if it cannot be read. */
static void read_text(const char *path, char *to, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, to, size - 1);

	if (fd >= 0)
		close(fd);
	to[n > 0 ? n : 0] = '\0';
}

/* The word in brackets. */
static void shmem_enabled(char *to, size_t size)
{
	char text[256], *open_at, *close_at;

	read_text(SHMEM_ENABLED, text, sizeof(text));
	open_at = strchr(text, '[');
	close_at = open_at ? strchr(open_at, ']') : NULL;
	if (close_at)
		*close_at = '\0';
	snprintf(to, size, "%s", close_at ? open_at + 1 : "");
}

/* The value of huge= among a mount's options, else never. */
static void huge_option(const char *options, char *to, size_t size)
{
	const char *at = strstr(options, "huge=");

	at = at ? at + strlen("huge=") : "never";
	snprintf(to, size, "%.*s", (int)strcspn(at, ",\n"), at);
}

/* Of the mount that a tmpfs file is in; false: in none that can be seen, as a memfd is. */
static bool mount_option(dev_t dev, char *to, size_t size)
{
	char line[1024], wanted[32];
	FILE *f = fopen("/proc/self/mountinfo", "re");
	bool found = false;

	snprintf(wanted, sizeof(wanted), "%u:%u", major(dev), minor(dev));
	while (f && !found && fgets(line, sizeof(line), f)) {
		const char *options = strstr(line, " - tmpfs ");
		char number[32];

		if (options && sscanf(line, "%*d %*d %31s", number) == 1 && !strcmp(number, wanted)) {
			huge_option(options, to, size);
			found = true;
		}
	}
	if (f)
		fclose(f);
	return found;
}

/* What decides, and its word. deny and force are for all tmpfs files, whatever their mounts say. */
static const char *setting(const struct arena *a, char *word, size_t size)
{
	shmem_enabled(word, size);
	if (!strcmp(word, "deny") || !strcmp(word, "force") || !mount_option(a->file_dev, word, size))
		return "shmem_enabled";
	return "huge";
}

void huge_setting(const struct arena *a, char *to, size_t size)
{
	char word[64];
	const char *name = setting(a, word, sizeof(word));

	snprintf(to, size, "%s=%s", name, word[0] ? word : "?");
}

static bool in_tmpfs(const struct arena *a)
{
	struct statfs fs;

	return fstatfs(a->files.fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC_NUMBER;
}

/* Whether the kernel knows how to make them; of memory that is nobody else's. */
static bool can_collapse(void)
{
	void *at = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	/* A range without a whole large page is no error where the advice is known. */
	bool can = at != MAP_FAILED && madvise(at, PAGE_SIZE, MADV_COLLAPSE) == 0;

	if (at != MAP_FAILED)
		munmap(at, PAGE_SIZE);
	return can;
}

enum huge_answer huge_ask(const struct arena *a, const struct arena_header *h)
{
	char word[64];

	if (a->files.heap_fd >= 0)
		return HUGE_HUGETLB;
	if (h->huge_mode == HUGE_PAGES_NEVER)
		return HUGE_NOT_WANTED;
	if (!in_tmpfs(a))
		return HUGE_NO_FILE;
	setting(a, word, sizeof(word));
	if (!word[0])
		return HUGE_NONE;
	if (strcmp(word, "never") && strcmp(word, "deny"))
		return HUGE_GRANTED;
	return h->huge_mode == HUGE_PAGES_ALWAYS && strcmp(word, "deny") && can_collapse() ? HUGE_MADE
											   : HUGE_SETTING;
}
