/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process with busy threads forks one child after another. Each child is a client of its own: it uses the
 * arena beside its parent, and ends by exit, by a kill, or by becoming another program. What the parent's
 * threads own stays theirs, and of the children nothing is left.
 */
#include <pthread.h>

#include "../unit/heap.h"

#define THREADS 3
#define CHILDREN 100
#define AT_ONCE 4
#define KEEP 100
#define SLEEP_FLAG "--sleep"

static shma *heap;
static struct board *board;

struct user {
	uint64_t seed;
	shma_handle kept[KEEP];
	int count, error;
};

static uint64_t next_random(struct user *u)
{
	u->seed = u->seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return u->seed >> 33;
}

static bool whole(shma_handle h)
{
	const uint64_t *p = shma_ptr(heap, h);

	return p && p[0] == h && p[shma_size(heap, h) / 8 - 1] == h;
}

static void use_once(struct user *u)
{
	if (u->count < KEEP && next_random(u) % 2) {
		size_t size = next_random(u) % 30 ? 16 + next_random(u) % 2000 : 50000;
		shma_handle h = shma_alloc(heap, size, 0);
		uint64_t *p = shma_ptr(heap, h);

		if (!p) {
			u->error = __LINE__;
			return;
		}
		p[0] = p[shma_size(heap, h) / 8 - 1] = h;
		u->kept[u->count++] = h;
	} else if (u->count) {
		int i = (int)(next_random(u) % (uint64_t)u->count);

		if (!whole(u->kept[i]) || shma_free(heap, u->kept[i]))
			u->error = __LINE__;
		u->kept[i] = u->kept[--u->count];
	}
}

static void free_all(struct user *u)
{
	while (!u->error && u->count)
		if (!whole(u->kept[--u->count]) || shma_free(heap, u->kept[u->count]))
			u->error = __LINE__;
}

static void *be_busy(void *arg)
{
	struct user *u = arg;

	while (!atomic_load(&board->stop) && !u->error)
		use_once(u);
	free_all(u);
	return NULL;
}

/* Handles of the parent's first thread are known to the child, and not its to free. */
static int live_and_end(void *arg)
{
	static struct user u;

	u = (struct user){.seed = *(uint64_t *)arg ^ (uint64_t)getpid()};
	for (int i = 0; i < 300 && !u.error; i++)
		use_once(&u);
	if (u.error)
		return 1;
	switch (next_random(&u) % 4) {
	case 0: return 0;
	case 1: die(); break;
	case 2:
		atomic_fetch_add(&board->numbers[getpid() % LENGTH(board->numbers)], 1);
		execl("/proc/self/exe", "sleep", SLEEP_FLAG, (char *)NULL);
		return 2;
	default: free_all(&u); return shma_close(heap) || u.error ? 3 : 0;
	}
	return 4;
}

static void expect_good_end(pid_t pid)
{
	_Atomic uint64_t *becomes_another = &board->numbers[(size_t)pid % LENGTH(board->numbers)];
	int status = 0;

	while (waitpid(pid, &status, WNOHANG) == 0) {
		usleep(1000);
		if (atomic_load(becomes_another)) {
			usleep(10000);
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			break;
		}
	}
	atomic_store(becomes_another, 0);
	ck_assert_msg((WIFEXITED(status) && WEXITSTATUS(status) == 0) ||
			      (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL),
		      "a child ended with wait status %#x", status);
}

START_TEST(children_of_busy_threads_are_clients_of_their_own)
{
	static struct user users[THREADS];
	pthread_t threads[THREADS];
	pid_t pids[AT_ONCE];

	heap_seed("children_of_busy_threads_are_clients_of_their_own");
	heap = heap_open(MIB(32), 0);
	board = board_new();
	for (int i = 0; i < THREADS; i++) {
		users[i].seed = heap_random();
		ck_assert_int_eq(pthread_create(&threads[i], NULL, be_busy, &users[i]), 0);
	}
	for (int i = 0; i < CHILDREN / AT_ONCE; i++) {
		uint64_t seed = heap_random();

		for (int k = 0; k < AT_ONCE; k++)
			pids[k] = child_start(live_and_end, &seed);
		for (int k = 0; k < AT_ONCE; k++)
			expect_good_end(pids[k]);
	}
	atomic_store(&board->stop, 1);
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		ck_assert_msg(users[i].error == 0, "a thread failed at line %d", users[i].error);
	}
	reap(&heap->arena);
	ck_assert_uint_eq(heap_stats(heap).live_objects, 0);
	ck_assert_uint_eq(heap_stats(heap).cached_objects, 0);
	ck_assert_uint_eq(heap_stats(heap).threads, 0);
	ck_assert_uint_eq(heap_stats(heap).clients, 1);
	heap_close(heap);
}
END_TEST

int main(int argc, char **argv)
{
	Suite *s = suite_create("heap_fork");
	TCase *t = tcase_create("fork");

	if (argc > 1 && strcmp(argv[1], SLEEP_FLAG) == 0) {
		alarm(600);
		pause();
		return 0;
	}
	tcase_set_timeout(t, 300);
	tcase_add_test(t, children_of_busy_threads_are_clients_of_their_own);
	suite_add_tcase(s, t);
	return run_suite(s);
}
