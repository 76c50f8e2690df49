/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring_kill [SECONDS [SEED]]: processes write to one ring, from the main line, from a signal handler and by
 * open reserves, and are killed at random; others take their place. A reader that keeps up and one that
 * naps account for every record: delivered once, whole, in the order of its thread, or counted as lost.
 *
 * The account is kept outside the arena: each writer counts what it was told to be written. A kill may come
 * between a record and its count, so the sum may be more by one record for each thing a killed writer was
 * in the middle of.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "arena_file.h"
#include "audit.h"
#include "client.h"
#include "recovery.h"
#include "ring.h"
#include "thread.h"

#include "../seed.h"

enum { WRITERS = 6, READERS = 2, LIVES = 4096, MOST = 60000 };

struct payload {
	uint64_t life; /* of the writer, over all kills */
	uint64_t number;
	uint64_t check;
	unsigned char fill[];
};

/* Of all processes. */
static struct {
	_Atomic uint64_t lives;
	_Atomic int stop;
	_Atomic int opened; /* readers; what was overwritten before is not in their account */
	_Atomic uint64_t wrote[LIVES];
	_Atomic int failed;
	_Atomic uint64_t got[READERS], lost[READERS], late[READERS];
} *shared;

static struct arena a;
static uint64_t life;
static unsigned seed;

#define MUST(condition)                                                                            \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);            \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* ---- writers ---- */

static size_t fill(struct payload *p, uint64_t number, size_t len)
{
	p->life = life;
	p->number = number;
	p->check = (life * 0x9e3779b97f4a7c15u) ^ (number * 0xff51afd7ed558ccdu) ^ len;
	memset(p->fill, (int)(number & 0xff), len - sizeof(*p));
	return len;
}

static size_t length(uint64_t number)
{
	/* Now and then a large one. */
	return number % 997 == 0 ? 20000 + number % 40000 : sizeof(struct payload) + number * 7 % 300;
}

static void count(int result)
{
	MUST(result == 0);
	atomic_fetch_add(&shared->wrote[life], 1);
}

static _Atomic uint64_t numbers;

static void write_one(void)
{
	_Alignas(8) char data[400];
	uint64_t number = atomic_fetch_add(&numbers, 1);
	size_t len = length(number);
	struct ring_open o;

	if (len <= sizeof(data)) {
		fill((struct payload *)data, number, len);
		count(ring_append(&a, thread_peek(&a), 6, data, len));
		return;
	}
	MUST(ring_reserve(&a, thread_peek(&a), &o, 6, len) == 0);
	fill(o.data, number, len);
	count(ring_commit(&a, thread_peek(&a), &o));
}

static void handler(int number)
{
	(void)number;
	write_one();
}

static void write_some_reserved(void)
{
	struct ring_open o[3];
	uint64_t number[3];

	for (int i = 0; i < 3; i++) {
		number[i] = atomic_fetch_add(&numbers, 1);
		MUST(ring_reserve(&a, thread_peek(&a), &o[i], 6, length(number[i])) == 0);
	}
	write_one();
	for (int i = 0; i < 3; i++) {
		fill(o[i].data, number[i], length(number[i]));
		count(ring_commit(&a, thread_peek(&a), &o[i]));
	}
}

static int writer(void)
{
	struct itimerval every = { .it_interval.tv_usec = 300, .it_value.tv_usec = 300 };
	int err;

	life = atomic_fetch_add(&shared->lives, 1);
	MUST(life < LIVES);
	MUST(thread_self(&a, &err));
	signal(SIGALRM, handler);
	setitimer(ITIMER_REAL, &every, NULL);
	while (!atomic_load(&shared->stop)) {
		for (int i = 0; i < 50; i++)
			write_one();
		write_some_reserved();
		if (rand_r(&seed) % 4 == 0)
			usleep(1000);
	}
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
	return 0;
}

/* ---- readers ---- */

static void check_record(const struct ring_entry *e, uint64_t *last_seq, uint8_t *fill_of)
{
	const struct payload *p = e->data;
	uint64_t expected;

	(void)fill_of;
	MUST(e->len >= sizeof(*p) && p->life < LIVES);
	MUST(e->len == length(p->number));
	expected = (p->life * 0x9e3779b97f4a7c15u) ^ (p->number * 0xff51afd7ed558ccdu) ^ e->len;
	MUST(p->check == expected);
	for (size_t i = 0; i < e->len - sizeof(*p); i++)
		MUST(p->fill[i] == (p->number & 0xff));
	/* Of one thread in the order of its numbers, unless said to be late. */
	MUST(e->late || e->seq > last_seq[p->life]);
	if (e->seq > last_seq[p->life])
		last_seq[p->life] = e->seq;
}

static int reader(int which)
{
	static uint64_t last_seq[LIVES];
	struct ring_reader *r;
	struct ring_entry e;
	int result, dry = 0;
	uint64_t n = 0;

	MUST(ring_reader_open(&a, &r, RING_FROM_OLDEST) == 0);
	atomic_fetch_add(&shared->opened, 1);
	while (dry < 2) {
		result = ring_reader_next(r, &e, which ? 0 : 50);
		MUST(result >= 0);
		if (!result) {
			dry = atomic_load(&shared->stop) == 2 ? dry + 1 : 0;
			if (which)
				usleep(20000);
			continue;
		}
		check_record(&e, last_seq, NULL);
		atomic_fetch_add(&shared->got[which], 1);
		atomic_fetch_add(&shared->lost[which], e.lost);
		atomic_fetch_add(&shared->late[which], (uint64_t)e.late);
		if (which && ++n % 5000 == 0)
			usleep(30000);
	}
	atomic_fetch_add(&shared->lost[which], e.lost);
	ring_reader_close(r);
	return 0;
}

/* ---- the account ---- */

static pid_t start(int which)
{
	pid_t child = fork();

	if (child)
		return child;
	seed ^= (unsigned)getpid();
	_exit(which < WRITERS ? writer() : reader(which - WRITERS));
}

static void expect_clean_end(pid_t child)
{
	int status;

	MUST(waitpid(child, &status, 0) == child);
	MUST(status == 0);
}

static void expect_account(int which, uint64_t written)
{
	uint64_t got = shared->got[which], lost = shared->lost[which];

	if (got + lost == written)
		return;
	fprintf(stderr, "reader %d: %llu read and %llu lost make %llu, not the %llu written\n", which,
		(unsigned long long)got, (unsigned long long)lost, (unsigned long long)(got + lost),
		(unsigned long long)written);
	abort();
}

static void start_readers(pid_t *readers)
{
	for (int i = 0; i < READERS; i++)
		readers[i] = start(WRITERS + i);
	while (atomic_load(&shared->opened) < READERS) {
		for (int i = 0; i < READERS; i++)
			MUST(waitpid(readers[i], NULL, WNOHANG) == 0);
		usleep(1000);
	}
}

static uint64_t now(void)
{
	return clock_now() / 1000000;
}

static uint32_t kill_for(pid_t *writers, uint64_t ms)
{
	uint64_t end = now() + ms;
	uint32_t kills = 0;

	while (now() < end && kills < LIVES - 2 * WRITERS) {
		int i = rand_r(&seed) % WRITERS, status;

		usleep((useconds_t)(rand_r(&seed) % 20000));
		if (rand_r(&seed) % 8 == 0) { /* stopped for a while, nobody minds */
			kill(writers[i], SIGSTOP);
			usleep(30000);
			kill(writers[i], SIGCONT);
			continue;
		}
		kill(writers[i], SIGKILL);
		MUST(waitpid(writers[i], &status, 0) == writers[i]);
		MUST(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		kills++;
		if (rand_r(&seed) % 2)
			recovery_reap_all(&a);
		writers[i] = start(i);
	}
	return kills;
}

static void report(void *context, const struct audit_finding *finding)
{
	(void)context;
	fprintf(stderr, "%s\n", finding->text);
}

int main(int argc, char **argv)
{
	struct arena_config config = { .name = "ringkill",
				       .capacity = UINT64_C(64) << 20,
				       .log_capacity = UINT64_C(512) << 10,
				       .backing = BACKING_MEMFD };
	uint64_t ms = argc > 1 ? strtoull(argv[1], NULL, 0) * 1000 : 3000, wrote = 0;
	pid_t writers[WRITERS], readers[READERS];
	struct arena_files files;
	struct ring_survey survey;
	uint32_t kills;
	char why[128];

	seed = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 0) : (unsigned)test_seed(NULL);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	MUST(shared != MAP_FAILED);
	MUST(arena_create(&config, &files) == 0);
	MUST(arena_map(&a, files, false) == 0);
	MUST(thread_attach_arena(&a) == 0);
	start_readers(readers);
	for (int i = 0; i < WRITERS; i++)
		writers[i] = start(i);
	MUST(thread_become_client(&a) == 0);
	kills = kill_for(writers, ms);
	atomic_store(&shared->stop, 1);
	for (int i = 0; i < WRITERS; i++)
		expect_clean_end(writers[i]);
	recovery_reap_all(&a);
	atomic_store(&shared->stop, 2);
	for (int i = 0; i < READERS; i++)
		expect_clean_end(readers[i]);
	for (int i = 0; i < LIVES; i++)
		wrote += atomic_load(&shared->wrote[i]);
	MUST(ring_survey(&a, &survey) == 0);
	printf("%llu written in %llu counted, %u kills; open %llu, shared %llu\n",
	       (unsigned long long)survey.written, (unsigned long long)wrote, kills,
	       (unsigned long long)survey.open, (unsigned long long)survey.shared);
	for (int i = 0; i < READERS; i++)
		printf("reader %d: %llu read, %llu lost, %llu late\n", i,
		       (unsigned long long)shared->got[i], (unsigned long long)shared->lost[i],
		       (unsigned long long)shared->late[i]);
	fflush(stdout); /* what follows may abort */
	MUST(survey.written >= wrote && survey.written <= wrote + 2 * kills);
	for (int i = 0; i < READERS; i++)
		expect_account(i, survey.written);
	MUST(survey.open == survey.shared); /* the dead and the gone have no leases */
	if (!ring_valid(&a, why, sizeof(why))) {
		fprintf(stderr, "%s\n", why);
		return EXIT_FAILURE;
	}
	return audit_arena(&a, false, report, NULL) ? EXIT_FAILURE : EXIT_SUCCESS;
}
