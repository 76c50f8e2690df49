/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot_work.c - what tool_snapshot.sh has in its arenas.
 *   make ARENA            roots that stay, and a pair of counters for each worker
 *   work ARENA N SEED     gives names to objects and takes them away, packs, logs, counts; until it is killed
 *   verify ARENA [exact]  whether every name that is there leads to its object, whole; all that stay have to be. exact:
 *                         the counters are of one instant, too. Prints how many names there were.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shmalloc.h"

#define WORKERS 4
#define STAY	60
#define NAMES	40
#define FAR	300000u /* bytes of the second counter's object */

static shma *s;
static uint64_t chance;

static uint64_t below(uint64_t n)
{
	chance ^= chance << 13;
	chance ^= chance >> 7;
	chance ^= chance << 17;
	return chance % n;
}

static void die(const char *what)
{
	fprintf(stderr, "%s\n", what);
	exit(1);
}

/* FNV-1a (Fowler, Noll, Vo), of the name too: no object passes for another's. */
static uint64_t sum_of(const char *name, const unsigned char *p, size_t len)
{
	uint64_t sum = UINT64_C(0xcbf29ce484222325);

	for (; *name; name++)
		sum = (sum ^ (unsigned char)*name) * UINT64_C(0x100000001b3);
	for (size_t i = 0; i < len; i++)
		sum = (sum ^ p[i]) * UINT64_C(0x100000001b3);
	return sum;
}

/* length | sum | bytes: never changed once it has its name. */
static shma_handle make(const char *name, size_t len)
{
	shma_handle h = shma_alloc(s, len + 16, 0);
	unsigned char *p = shma_ptr(s, h);
	uint64_t head[2] = { len, 0 };

	if (!p)
		return 0;
	for (size_t i = 0; i < len; i++)
		p[16 + i] = (unsigned char)(below(9) ? 'a' + i % 7 : below(256));
	head[1] = sum_of(name, p + 16, len);
	memcpy(p, head, sizeof(head));
	if (below(3) == 0) {
		shma_handle packed = shma_pack(s, h, (int)below(4));

		h = packed ? packed : h;
	}
	return h;
}

static bool whole(const char *name, shma_handle h)
{
	uint64_t head[2];
	unsigned char *p;
	bool is;

	if (shma_read(s, h, 0, head, sizeof(head)) != (ssize_t)sizeof(head) || head[0] > 1 << 20)
		return false;
	p = malloc(head[0] + 1);
	is = p && shma_read(s, h, 16, p, head[0]) == (ssize_t)head[0] && sum_of(name, p, head[0]) == head[1];
	free(p);
	return is;
}

static void publish_new(const char *name, size_t len)
{
	shma_handle h = make(name, len);

	if (h && shma_publish(s, name, h))
		shma_free(s, h);
}

static void counter_name(char *name, size_t size, char which, int worker)
{
	snprintf(name, size, "count-%c-%d", which, worker);
}

static int make_all(void)
{
	char name[32];

	for (int i = 0; i < STAY; i++) {
		snprintf(name, sizeof(name), "stay-%d", i);
		publish_new(name, i % 3 ? below(3000) : below(400000));
	}
	for (int w = 0; w < WORKERS; w++) {
		counter_name(name, sizeof(name), 'a', w);
		if (shma_publish(s, name, shma_alloc(s, 64, SHMA_ZERO)))
			die("cannot publish a counter");
		counter_name(name, sizeof(name), 'b', w);
		if (shma_publish(s, name, shma_alloc(s, FAR, SHMA_ZERO)))
			die("cannot publish a counter");
	}
	return 0;
}

static _Atomic uint64_t *counter(char which, int worker)
{
	char name[32];
	_Atomic uint64_t *p;

	counter_name(name, sizeof(name), which, worker);
	p = shma_ptr(s, shma_lookup(s, name));
	if (!p)
		die("a counter is lost");
	return which == 'b' ? p + FAR / 16 : p;
}

static void one_step(int worker)
{
	char name[32];
	shma_handle h;

	snprintf(name, sizeof(name), "work-%d-%d", worker, (int)below(NAMES));
	h = shma_lookup(s, name);
	if (!h)
		publish_new(name, below(8) ? below(2000) : below(200000));
	else if (shma_unpublish(s, name) == 0)
		shma_free(s, h);
	h = shma_alloc(s, 1 + below(5000), below(2) ? SHMA_SHARED : 0);
	shma_log(s, 6, "worker %d: %llu", worker, (unsigned long long)h);
	if (h && below(10))
		shma_free(s, h);
}

static _Noreturn void work(int worker)
{
	_Atomic uint64_t *a = counter('a', worker), *b = counter('b', worker);

	/* Who was here before may have died between the two. */
	atomic_store(b, atomic_load(a));
	for (;;) {
		for (int i = 0; i < 100; i++) {
			atomic_fetch_add(a, 1);
			atomic_fetch_add(b, 1);
		}
		one_step(worker);
	}
}

/* a is counted first. */
static void verify_counters(void)
{
	for (int w = 0; w < WORKERS; w++) {
		uint64_t x = atomic_load(counter('a', w)), y = atomic_load(counter('b', w));

		if (x != y && x != y + 1)
			die("the counters are of different instants");
	}
}

static int verify(bool is_exact)
{
	char name[32];
	int there = 0;

	for (int i = 0; i < STAY; i++) {
		snprintf(name, sizeof(name), "stay-%d", i);
		if (!whole(name, shma_lookup(s, name)))
			die("what stays is lost, or not whole");
		there++;
	}
	for (int i = 0; i < WORKERS * NAMES; i++) {
		shma_handle h;

		snprintf(name, sizeof(name), "work-%d-%d", i / NAMES, i % NAMES);
		h = shma_lookup(s, name);
		if (h && !whole(name, h))
			die("a name leads to what is not whole");
		there += h != 0;
	}
	if (is_exact)
		verify_counters();
	printf("%d\n", there);
	return 0;
}

int main(int argc, char **argv)
{
	struct shma_options options = { .struct_size = sizeof(options), .capacity = 64 << 20, .log_capacity = 256 << 10 };
	int r;

	if (argc < 3)
		return 2;
	r = shma_open(&s, argv[2], SHMA_EMBEDDED | (strcmp(argv[1], "make") == 0 ? SHMA_CREATE | SHMA_EXCL : 0), &options);
	if (r)
		die(shma_strerror(r));
	chance = 88172645463325252u + (argc > 4 ? strtoull(argv[4], NULL, 10) : 1) * 2654435761u;
	if (strcmp(argv[1], "make") == 0)
		return make_all();
	if (strcmp(argv[1], "work") == 0 && argc > 3)
		work(atoi(argv[3]) % WORKERS);
	return verify(argc > 3);
}
