/* SPDX-License-Identifier: Apache-2.0 */
#include "bells.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "msg.h"

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

#define MOST 127u /* the kernel's 128, one of them to be told of changes */

/* As the kernel's struct futex_waitv, which older headers lack. */
struct waiter {
	uint64_t value, address;
	uint32_t flags, reserved;
};
#define WORD_32 2u
#define PRIVATE 128u

static struct {
	pthread_mutex_t lock;
	pthread_cond_t seen;
	struct loop *loop; /* NULL: not begun */
	struct loop_op poll;
	pthread_t thread;
	int event_fd;
	bool stop, broken; /* broken: nobody waits any more, -errno in error */
	int error;
	struct bell *bells; /* waiting or rung */
	unsigned count;
	_Atomic uint32_t changed; /* the thread's futex: stored under the lock */
	uint32_t taken;		  /* what the thread saw of it last: older words it has forgotten */
} b = { .lock = PTHREAD_MUTEX_INITIALIZER, .seen = PTHREAD_COND_INITIALIZER, .event_fd = -1 };

/* ---- in the thread ---- */

static void ring(struct bell *bell)
{
	uint64_t one = 1;

	bell->state = BELL_RUNG;
	if (write(b.event_fd, &one, sizeof one) < 0)
		return; /* it can only be too many already */
}

/* Which it was the kernel does not always say. EFAULT, too, is for the loop to see. */
static void ring_changed(void)
{
	const struct timespec none = { 0 };

	for (struct bell *bell = b.bells; bell; bell = bell->next)
		if (bell->state == BELL_WAITING &&
		    syscall(SYS_futex, bell->word, FUTEX_WAIT, bell->value, &none, NULL, 0) < 0 &&
		    errno != ETIMEDOUT && errno != EINTR)
			ring(bell);
}

static void give_up(int err)
{
	b.broken = true;
	b.error = err;
	for (struct bell *bell = b.bells; bell; bell = bell->next)
		if (bell->state == BELL_WAITING)
			ring(bell);
}

static unsigned gather(struct waiter *waiters)
{
	unsigned n = 1;

	b.taken = atomic_load(&b.changed);
	waiters[0] = (struct waiter){ b.taken, (uintptr_t)&b.changed, WORD_32 | PRIVATE, 0 };
	for (struct bell *bell = b.bells; bell; bell = bell->next)
		if (bell->state == BELL_WAITING)
			waiters[n++] = (struct waiter){ bell->value, (uintptr_t)bell->word, WORD_32, 0 };
	pthread_cond_broadcast(&b.seen);
	return n;
}

static void *wait_for_bells(void *user)
{
	struct waiter waiters[MOST + 1];

	(void)user;
	pthread_mutex_lock(&b.lock);
	while (!b.stop && !b.broken) {
		unsigned n = gather(waiters);
		long r;

		pthread_mutex_unlock(&b.lock);
		r = syscall(SYS_futex_waitv, waiters, n, 0, NULL, 0);
		if (r < 0)
			r = -errno;
		pthread_mutex_lock(&b.lock);
		if (r >= 0 || r == -EAGAIN || r == -EFAULT)
			ring_changed();
		else if (r != -EINTR)
			give_up((int)r);
	}
	pthread_cond_broadcast(&b.seen);
	pthread_mutex_unlock(&b.lock);
	return NULL;
}

/* ---- in the loop's ---- */

static void unlink_bell(struct bell *bell)
{
	*bell->link = bell->next;
	if (bell->next)
		bell->next->link = bell->link;
	bell->state = BELL_IDLE;
	b.count--;
}

/* The thread looks at the list anew. */
static void tell_thread(void)
{
	atomic_fetch_add(&b.changed, 1);
	syscall(SYS_futex, &b.changed, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, INT_MAX, NULL, NULL, 0);
}

static struct bell *take_rung(void)
{
	struct bell *bell;

	pthread_mutex_lock(&b.lock);
	for (bell = b.bells; bell && bell->state != BELL_RUNG; bell = bell->next)
		;
	if (bell)
		unlink_bell(bell);
	pthread_mutex_unlock(&b.lock);
	return bell;
}

static void say_why(int err)
{
	msg_notice("the log's bell cannot be waited for (%s): idle logs are looked at now and then",
		   strerror(-err));
}

static void deliver(struct loop_op *op, int result)
{
	static bool said;
	struct bell *bell;
	uint64_t count;
	int err;

	if (result < 0 || read(b.event_fd, &count, sizeof count) < 0)
		count = 0;
	pthread_mutex_lock(&b.lock);
	err = b.broken ? b.error : 0;
	pthread_mutex_unlock(&b.lock);
	if (err && !said)
		say_why(err);
	said |= err;
	while (!b.loop->stop && (bell = take_rung()))
		bell->rung(bell);
	loop_poll(b.loop, op, b.event_fd, POLLIN);
}

static int begin(struct loop *loop)
{
	int err;

	/* Of nobody: a kernel that has it says EINVAL. */
	if (syscall(SYS_futex_waitv, NULL, 0, 0, NULL, 0) < 0 && errno != EINVAL)
		return -errno;
	b.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (b.event_fd < 0)
		return -errno;
	err = -pthread_create(&b.thread, NULL, wait_for_bells, NULL);
	if (err) {
		close(b.event_fd);
		return err;
	}
	b.loop = loop;
	b.poll.done = deliver;
	loop_poll(loop, &b.poll, b.event_fd, POLLIN);
	return 0;
}

bool bells_wait(struct loop *loop, struct bell *bell, _Atomic uint32_t *word, uint32_t value)
{
	bool waits;

	if (!b.loop && !b.broken) {
		b.error = begin(loop);
		b.broken = b.error;
		if (b.error)
			say_why(b.error);
	}
	bells_leave(bell);
	pthread_mutex_lock(&b.lock);
	waits = !b.broken && b.count < MOST;
	if (waits) {
		bell->word = word;
		bell->value = value;
		bell->state = BELL_WAITING;
		bell->next = b.bells;
		bell->link = &b.bells;
		if (bell->next)
			bell->next->link = &bell->next;
		b.bells = bell;
		b.count++;
		tell_thread();
	}
	pthread_mutex_unlock(&b.lock);
	return waits;
}

void bells_leave(struct bell *bell)
{
	pthread_mutex_lock(&b.lock);
	if (bell->state != BELL_IDLE) {
		unlink_bell(bell);
		tell_thread();
		while (b.taken != atomic_load(&b.changed) && !b.broken && !b.stop)
			pthread_cond_wait(&b.seen, &b.lock);
	}
	pthread_mutex_unlock(&b.lock);
}

void bells_close(void)
{
	if (!b.loop)
		return;
	pthread_mutex_lock(&b.lock);
	b.stop = true;
	tell_thread();
	pthread_mutex_unlock(&b.lock);
	pthread_join(b.thread, NULL);
	close(b.event_fd);
	b.loop = NULL;
}
