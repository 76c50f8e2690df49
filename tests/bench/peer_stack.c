/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_stack.c - temporary memory of others: glibc's obstack, given back to a mark as ours is; and an APR pool, which
 * can only be cleared as a whole.
 */
#include "peer.h"

#include <apr_pools.h>
#include <apr_general.h>
#include <apr_version.h>
#include <obstack.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define obstack_chunk_alloc malloc
#define obstack_chunk_free  free

static struct obstack stack;
static apr_pool_t *pool;

static uint64_t obstack_mark(void)
{
	return (uint64_t)(uintptr_t)obstack_alloc(&stack, 0);
}

static peer_ref obstack_take(size_t size)
{
	return (peer_ref)obstack_alloc(&stack, size);
}

static void obstack_reset(uint64_t mark)
{
	obstack_free(&stack, (void *)(uintptr_t)mark);
}

static const struct peer_stack obstack_calls = { obstack_mark, obstack_take, obstack_reset };
static const struct peer_ops obstack_ops = { .version = "glibc's obstack", .stack = &obstack_calls };

static uint64_t pool_mark(void)
{
	return 0;
}

static peer_ref pool_take(size_t size)
{
	return (peer_ref)apr_palloc(pool, size);
}

static void pool_reset(uint64_t mark)
{
	(void)mark;
	apr_pool_clear(pool);
}

static const struct peer_stack pool_calls = { pool_mark, pool_take, pool_reset };
static struct peer_ops pool_ops = { .stack = &pool_calls };

const struct peer_ops *peer_open(const struct peer_config *config, char *err, size_t err_size)
{
	static char version[64];

	if (!strcmp(config->variant, "obstack")) {
		obstack_init(&stack);
		obstack_alignment_mask(&stack) = 15;
		return &obstack_ops;
	}
	if (apr_initialize() || apr_pool_create(&pool, NULL)) {
		snprintf(err, err_size, "APR cannot be initialised");
		return NULL;
	}
	snprintf(version, sizeof(version), "APR %s", apr_version_string());
	pool_ops.version = version;
	return &pool_ops;
}
