/* SPDX-License-Identifier: Apache-2.0 */
#include "guard.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

static sigjmp_buf escape;
static const char *volatile guarded;
static volatile uint64_t guarded_size;

/* Not ours: it comes again, at the same instruction, with the default action. */
static void on_bus_error(int signal_number, siginfo_t *info, void *context)
{
	const char *at = info->si_addr;

	(void)context;
	if (guarded && at >= guarded && (uint64_t)(at - guarded) < guarded_size)
		siglongjmp(escape, 1);
	signal(signal_number, SIG_DFL);
}

int guard_install(void)
{
	struct sigaction action = { .sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO };

	sigemptyset(&action.sa_mask);
	return sigaction(SIGBUS, &action, NULL) < 0 ? -errno : 0;
}

static int replace_mapping(struct arena *arena)
{
	void *p = mmap(arena->reservation, arena->reservation_size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? -errno : 0;
}

int guard_run(struct arena *arena, void (*work)(void *user), void *user)
{
	guarded_size = arena->reservation_size;
	guarded = arena->reservation;
	if (sigsetjmp(escape, 1) == 0) {
		work(user);
		guarded = NULL;
		return 0;
	}
	guarded = NULL;
	replace_mapping(arena);
	return -EFAULT;
}
