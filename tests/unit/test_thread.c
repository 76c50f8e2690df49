/* SPDX-License-Identifier: Apache-2.0 */
/* Threads: their blocks come with the first call and go with their end, in every arena they used. */
#include <pthread.h>

#include "heap.h"
#include "stats.h"

static shma *heap;
static struct board *board;

static void setup(void)
{
	heap = heap_open(MIB(16), 0);
	board = board_new();
}

static void teardown(void)
{
	heap_close(heap);
}

static _Atomic uint64_t *thread_words(void)
{
	return arena_at(&heap->arena, heap->arena.g.thread_words);
}

static struct thread_block *block(void)
{
	int err = 0;
	struct thread_block *t = thread_self(&heap->arena, &err);

	ck_assert_int_eq(err, 0);
	return t;
}

START_TEST(a_block_comes_with_the_first_call)
{
	uint64_t word;
	struct thread_block *t;

	ck_assert_ptr_eq(thread_peek(&heap->arena), NULL);
	t = block();
	ck_assert_ptr_eq(thread_peek(&heap->arena), t);
	ck_assert_ptr_eq(block(), t);
	ck_assert_int_eq(t->tid, gettid());
	ck_assert_uint_eq(t->own, state_make(OBJECT_PRIVATE, heap->arena.client, 0));
	ck_assert_uint_eq(t->gen_step >> STATE_GEN_SHIFT & 1, 1);
	word = atomic_load(&thread_words()[t->index]);
	ck_assert_int_eq(thread_word_state(word), THREAD_LIVE);
	ck_assert_uint_eq(thread_word_client(word), heap->arena.client);
	ck_assert_ptr_eq(heap->arena.heap + (thread_word_page(word) << PAGE_SHIFT), t);
	heap_check(&heap->arena);
}
END_TEST

#define CROWD 40

static struct thread_block *blocks[CROWD];

static void *stay_a_while(void *arg)
{
	int i = atomic_fetch_add(&board->ready, 1), err;

	(void)arg;
	blocks[i] = thread_self(&heap->arena, &err);
	atomic_fetch_add(&board->step, 1);
	while (!atomic_load(&board->stop))
		usleep(200);
	return NULL;
}

START_TEST(each_thread_has_a_block_of_its_own_and_a_step_of_its_own)
{
	pthread_t threads[CROWD];
	uint32_t high;

	for (int round = 0; round < 3; round++) {
		atomic_store(&board->ready, 0);
		atomic_store(&board->step, 0);
		atomic_store(&board->stop, 0);
		for (int i = 0; i < CROWD; i++)
			ck_assert_int_eq(pthread_create(&threads[i], NULL, stay_a_while, NULL), 0);
		board_wait(&board->step, CROWD);
		for (int i = 0; i < CROWD; i++)
			for (int k = 0; k < i; k++) {
				ck_assert_ptr_ne(blocks[i], blocks[k]);
				ck_assert_uint_ne(blocks[i]->gen_step, blocks[k]->gen_step);
			}
		ck_assert_uint_eq(heap_stats(heap).threads, CROWD);
		heap_check(&heap->arena);
		atomic_store(&board->stop, 1);
		for (int i = 0; i < CROWD; i++)
			pthread_join(threads[i], NULL);
		ck_assert_uint_eq(heap_stats(heap).threads, 0);
		ck_assert_uint_eq(heap_stats(heap).extents, 0);
		high = atomic_load(&heap->arena.header->threads_high);
		ck_assert_uint_le(high, CROWD); /* places are used again */
		ck_assert_uint_eq(atomic_load(&heap->arena.threads), 0);
	}
}
END_TEST

START_TEST(when_all_places_are_taken_that_is_eusers)
{
	for (uint32_t i = 0; i < THREADS_MAX; i++)
		atomic_store(&thread_words()[i], thread_word(THREAD_CLAIMED, heap->arena.client, 0));
	ck_assert(shma_alloc(heap, 10, 0) == SHMA_NULL && errno == EUSERS);
	ck_assert_int_eq(shma_free(heap, 1), -EUSERS);
	for (uint32_t i = 0; i < THREADS_MAX; i++)
		atomic_store(&thread_words()[i], 0);
	atomic_store(&heap->arena.header->threads_high, THREADS_MAX);
	ck_assert_uint_ne(shma_alloc(heap, 10, 0), SHMA_NULL);
}
END_TEST

/* ---- arenas ---- */

#define ARENAS 12

static shma *heaps[ARENAS];

static void *use_all(void *arg)
{
	shma_handle h[ARENAS];

	(void)arg;
	for (int i = 0; i < ARENAS; i++) {
		h[i] = shma_alloc(heaps[i], 100, 0);
		memset(shma_ptr(heaps[i], h[i]), i, 100);
	}
	for (int i = 0; i < ARENAS; i++)
		if (*(char *)shma_ptr(heaps[i], h[i]) != i || shma_free(heaps[i], h[i]))
			return (void *)1;
	return NULL;
}

static void open_all(void)
{
	for (int i = 0; i < ARENAS; i++)
		heaps[i] = heap_open(MIB(16), 0); /* each loses its name at once */
}

START_TEST(a_thread_uses_many_arenas_and_leaves_all_of_them)
{
	pthread_t threads[3];
	void *error;

	open_all();
	for (size_t i = 0; i < LENGTH(threads); i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, use_all, NULL), 0);
	for (size_t i = 0; i < LENGTH(threads); i++) {
		ck_assert_int_eq(pthread_join(threads[i], &error), 0);
		ck_assert_ptr_eq(error, NULL);
	}
	for (int i = 0; i < ARENAS; i++) {
		ck_assert_uint_eq(heap_stats(heaps[i]).threads, 0);
		ck_assert_uint_eq(heap_stats(heaps[i]).slabs, 0);
		heap_close(heaps[i]);
	}
}
END_TEST

static void *use_and_wait(void *arg)
{
	(void)arg;
	if (use_all(NULL))
		return (void *)1;
	atomic_fetch_add(&board->ready, 1);
	while (!atomic_load(&board->stop))
		usleep(200);
	return NULL;
}

START_TEST(arenas_may_be_closed_while_threads_that_used_them_live)
{
	pthread_t thread;
	void *error;

	open_all();
	ck_assert_int_eq(pthread_create(&thread, NULL, use_and_wait, NULL), 0);
	board_wait(&board->ready, 1);
	for (int i = 0; i < ARENAS; i++)
		heap_close(heaps[i]);
	open_all(); /* in the same places */
	for (int i = 0; i < ARENAS; i++) {
		ck_assert_uint_eq(heap_stats(heaps[i]).threads, 0);
		heap_close(heaps[i]);
	}
	atomic_store(&board->stop, 1);
	ck_assert_int_eq(pthread_join(thread, &error), 0);
	ck_assert_ptr_eq(error, NULL);
}
END_TEST

START_TEST(too_many_arenas_are_emfile)
{
	static struct arena dummies[THREAD_CELLS];
	uint32_t n = 0;

	while (n < THREAD_CELLS && thread_attach_arena(&dummies[n]) == 0)
		n++;
	ck_assert_uint_eq(n, THREAD_CELLS - 1); /* and the one of the fixture */
	ck_assert_int_eq(thread_attach_arena(&dummies[n]), -EMFILE);
	while (n--)
		thread_detach_arena(&dummies[n]);
	ck_assert_int_eq(thread_attach_arena(&dummies[0]), 0);
	thread_detach_arena(&dummies[0]);
}
END_TEST

/* ---- forks ---- */

#ifndef __SANITIZE_THREAD__
static int child_without_a_block(void *arg)
{
	struct thread_block *parents = arg, *mine;
	int err = 0;

	if (thread_peek(&heap->arena) || thread_is_client(&heap->arena))
		return 1;
	mine = thread_self(&heap->arena, &err);
	if (!mine || mine == parents || mine->index == parents->index)
		return 2;
	return thread_is_client(&heap->arena) && heap->arena.client != state_client(parents->own) ? 0 : 3;
}

START_TEST(a_forked_child_has_no_block_until_it_asks_for_its_own)
{
	struct thread_block *mine = block();

	ck_assert_int_eq(in_child(child_without_a_block, mine), 0);
	ck_assert_ptr_eq(thread_peek(&heap->arena), mine);
	ck_assert_uint_eq(reap(&heap->arena), 1);
}
END_TEST

static void *fork_and_use(void *arg)
{
	int status;
	pid_t pid;

	if (use_all(NULL))
		return (void *)1;
	pid = fork();
	if (pid == 0)
		_exit(use_all(NULL) ? 1 : 0);
	waitpid(pid, &status, 0);
	return status || use_all(NULL) ? (void *)2 : arg;
}

START_TEST(threads_fork_and_all_go_on)
{
	pthread_t threads[3];
	void *error;

	open_all();
	for (size_t i = 0; i < LENGTH(threads); i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, fork_and_use, NULL), 0);
	for (size_t i = 0; i < LENGTH(threads); i++) {
		ck_assert_int_eq(pthread_join(threads[i], &error), 0);
		ck_assert_ptr_eq(error, NULL);
	}
	for (int i = 0; i < ARENAS; i++) {
		ck_assert_uint_eq(reap(&heaps[i]->arena), LENGTH(threads));
		ck_assert_uint_eq(heap_stats(heaps[i]).live_objects, 0);
		heap_close(heaps[i]);
	}
}
END_TEST

static int thread_that_ends_without_a_word(void *arg)
{
	(void)arg;
	if (!shma_alloc(heap, 100, 0))
		return 1;
	die();
	return 0;
}

START_TEST(threads_of_the_dead_go_with_their_process)
{
	struct shma_stats st;

	child_dies(child_start(thread_that_ends_without_a_word, NULL));
	stats_arena(&heap->arena, &st); /* shma_stats() would recover it */
	ck_assert_uint_eq(st.threads, 1);
	ck_assert_uint_eq(reap(&heap->arena), 1);
	ck_assert_uint_eq(heap_stats(heap).threads, 0);
}
END_TEST
#endif

int main(void)
{
	Suite *s = suite_create("thread");
	TCase *t = tcase_create("thread");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_block_comes_with_the_first_call);
	tcase_add_test(t, each_thread_has_a_block_of_its_own_and_a_step_of_its_own);
	tcase_add_test(t, when_all_places_are_taken_that_is_eusers);
	tcase_add_test(t, a_thread_uses_many_arenas_and_leaves_all_of_them);
	tcase_add_test(t, arenas_may_be_closed_while_threads_that_used_them_live);
	tcase_add_test(t, too_many_arenas_are_emfile);
#ifndef __SANITIZE_THREAD__
	tcase_add_test(t, a_forked_child_has_no_block_until_it_asks_for_its_own);
	tcase_add_test(t, threads_fork_and_all_go_on);
	tcase_add_test(t, threads_of_the_dead_go_with_their_process);
#endif
	suite_add_tcase(s, t);
	return run_suite(s);
}
