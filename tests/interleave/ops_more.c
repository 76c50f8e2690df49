/* SPDX-License-Identifier: Apache-2.0 */
/* Operations that come by stop points where those of the crash harness do not. */
#include <string.h>

#include "interleave.h"
#include "ring_view.h"

#define SMALL 40u
#define MANY  60u /* more than a shared block takes */

static char data[SMALL];
static int result;
static struct shma_record reserved[RING_LEVELS];

bool more_op_worked(void)
{
	return result == 0;
}

static bool done(void)
{
	return result == 0;
}

/* No block of the thread's own is left: the next record shares one. */
static void reserve_all(void)
{
	for (uint32_t i = 0; i < RING_LEVELS; i++) {
		note_line(data, SMALL, FATE_GONE);
		if (shma_log_reserve(self, &reserved[i], 6, SMALL))
			broken("cannot reserve");
		memcpy(reserved[i].data, data, SMALL);
	}
	note_line(data, SMALL, FATE_EITHER);
}

static void append(void)
{
	result = shma_log_write(self, 6, data, SMALL);
}

static char many[MANY][SMALL];

static void reserve_all_for_many(void)
{
	reserve_all();
	for (uint32_t i = 0; i < MANY; i++)
		note_line(many[i], SMALL, FATE_EITHER);
}

/* One shared block after the other. */
static void append_many(void)
{
	for (uint32_t i = 0; i < MANY && !result; i++)
		result = shma_log_write(self, 6, many[i], SMALL);
}

const struct op more_ops[] = {
	OP("log", "shared block, the first", reserve_all, append, done),
	OP("log", "shared blocks, one after the other", reserve_all_for_many, append_many, done),
	{ .name = NULL },
};
