/* SPDX-License-Identifier: Apache-2.0 */
/* Operations: objects that stand for a file. It is this program, which is there as long as its arena. */
#include "crash.h"

static uint64_t handle = 1; /* what the operation has made */
static size_t length;
static uint32_t thing;
static int result;

static void map_program(void)
{
	if (shma_map_file(self, "/proc/self/exe", &handle, &length))
		broken("cannot make an object of a file");
}

static void any_thing(void)
{
	make_thing(64, 0, FATE_GONE);
}

static void map_file(void)
{
	result = shma_map_file(self, "/proc/self/exe", &handle, &length);
}

static bool got(void)
{
	return result == 0 && shma_size(self, handle) == length;
}

/* ---- one that is there ---- */

static void one(void)
{
	any_thing();
	map_program();
	thing = note_file(handle, length, FATE_GONE);
}

/* It is open, and mapped. */
static void one_mapped(void)
{
	one();
	if (!shma_ptr(self, handle))
		broken("cannot map a file");
}

static void free_thing(void)
{
	result = shma_free(self, thing_at(thing)->handle);
}

static bool done(void)
{
	return result == 0;
}

static void one_to_publish(void)
{
	one();
	thing_at(thing)->fate = FATE_EITHER;
	note_label("victim", thing, FATE_EITHER, true);
}

static void publish(void)
{
	result = shma_publish(self, "victim", thing_at(thing)->handle);
}

static void one_published(void)
{
	one_to_publish();
	publish();
}

static void unpublish(void)
{
	result = shma_unpublish(self, "victim");
}

bool file_op_worked(void)
{
	return result == 0 && handle != 0;
}

const struct op file_ops[] = {
	OP("map_file", "a page of its own", any_thing, map_file, got),
	OP("free", "that stands for a file", one_mapped, free_thing, done),
	OP("publish", "that stands for a file", one_to_publish, publish, done),
	OP("unpublish", "that stands for a file", one_published, unpublish, done),
	{ .name = NULL }
};
