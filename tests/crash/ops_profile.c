/* SPDX-License-Identifier: Apache-2.0 */
/* Operations: allocations are profiled, from the first sample on; it is switched on and off. Whatever is under way, the
 * object goes with its client, and what is shown of the profile is whole (judge_profile.c). */
#include "crash.h"
#include "profile.h"

#define RATE	    1024u
#define SAMPLED	    65536u /* is not sampled once in 10^27 times */
#define DEEP	    40u	   /* calls, more than are recorded */

static uint64_t handle;
static uint32_t sites; /* before */
static int result = -1;

bool profile_op_worked(void)
{
	return result == 0;
}

static uint32_t sites_now(void)
{
	struct profile_stack s;
	uint32_t count = 0;

	for (uint32_t i = 0; i < PROFILE_SITES; i++)
		count += profile_stack(&self->arena, i, &s);
	return count;
}

static bool is_sampled(void)
{
	struct profile_object o;
	uint32_t at = 0;

	while (profile_next(&self->arena, &at, &o))
		if (o.handle == handle)
			return o.size == SAMPLED;
	return false;
}

/* ---- switching ---- */

static void come(void)
{
	/* From a cache it is had again. */
	drop_thing(make_thing(SAMPLED, 0, FATE_GONE));
}

static void switch_on(void)
{
	result = shma_profile(self, RATE);
}

static void switch_off(void)
{
	result = shma_profile(self, 0);
}

static void profiled(void)
{
	come();
	switch_on();
	if (result)
		broken("cannot profile");
}

static void profiled_before(void)
{
	profiled();
	switch_off();
}

static bool is_on(void)
{
	return result == 0 && profile_rate(&self->arena) == RATE;
}

static bool is_off(void)
{
	return result == 0 && !profile_rate(&self->arena);
}

/* ---- sampling ---- */

static __attribute__((noinline)) void alloc_sampled(void)
{
	handle = shma_alloc(self, SAMPLED, 0);
	result = handle ? 0 : -1;
}

/* From so deep that it is the same stack of calls whoever began. */
static __attribute__((noinline)) void alloc_deep(uint32_t deep)
{
	if (deep)
		alloc_deep(deep - 1);
	else
		alloc_sampled();
	__asm__ volatile(""); /* not the last thing: a call remains a call */
}

static void alloc_from_deep(void)
{
	alloc_deep(DEEP);
}

static void sampled_before(void)
{
	profiled();
	alloc_from_deep();
	if (result || !is_sampled() || shma_free(self, handle))
		broken("nothing was sampled");
	sites = sites_now();
}

static bool at_new_site(void)
{
	return result == 0 && is_sampled() && sites_now() == sites + 1;
}

static bool at_known_site(void)
{
	return result == 0 && is_sampled() && sites_now() == sites;
}

const struct op profile_ops[] = {
	OP("profile", "on, for the first time", come, switch_on, is_on),
	OP("profile", "on", profiled_before, switch_on, is_on),
	OP("profile", "off", profiled, switch_off, is_off),
	OP("alloc", "sampled, the first", profiled, alloc_sampled, at_new_site),
	OP("alloc", "sampled, new stack of calls", sampled_before, alloc_sampled, at_new_site),
	OP("alloc", "sampled, known stack of calls", sampled_before, alloc_from_deep, at_known_site),
	{ .name = NULL }
};
