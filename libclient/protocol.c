/* SPDX-License-Identifier: Apache-2.0 */
/*
 * protocol.c - building and checking of requests and replies. No system call, no state: what is read
 * is the caller's private copy of a message, so a value checked once stays what it was.
 */
#include "protocol.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "arena_file.h"
#include "shmalloc.h"

static bool all_zero(const void *bytes, size_t length)
{
	const unsigned char *p = bytes;

	for (size_t i = 0; i < length; i++)
		if (p[i])
			return false;
	return true;
}

/* A terminator, and nothing but zeros after it: no byte of a message goes unlooked at. */
static bool text_padded(const char *text, size_t size)
{
	size_t length = strnlen(text, size);

	return length < size && all_zero(text + length, size - length);
}

static void head_make(struct protocol_head *head, uint32_t type)
{
	head->magic = PROTOCOL_MAGIC;
	head->version = PROTOCOL_VERSION;
	head->type = (uint16_t)type;
}

int protocol_request(struct request *ret, enum request_type type, const char *name)
{
	int err;

	memset(ret, 0, sizeof *ret);
	head_make(&ret->head, type);
	if (!name)
		return 0;
	err = arena_name_check(name);
	if (err)
		return err;
	memcpy(ret->name, name, strlen(name));
	return 0;
}

/* The part that all versions share. */
static int head_check(const void *bytes, size_t length, struct protocol_head *head)
{
	if (length < sizeof *head)
		return -EBADMSG;
	memcpy(head, bytes, sizeof *head);
	if (head->magic != PROTOCOL_MAGIC)
		return -EBADMSG;
	return head->version == PROTOCOL_VERSION ? 0 : -EPROTO;
}

int protocol_terms_check(const struct arena_terms *t)
{
	if (t->capacity && (t->capacity < CAPACITY_MIN || t->capacity > CAPACITY_MAX))
		return -EINVAL;
	if (t->log_capacity > CAPACITY_MAX || t->client_quota > CAPACITY_MAX)
		return -EINVAL;
	if (t->backing > BACKING_FILE || t->log_policy > SHMA_LOG_BLOCK || t->mode > 0777)
		return -EINVAL;
	/* Its owner could not open it again. */
	if (t->mode && (t->mode & 0600) != 0600)
		return -EINVAL;
	if (t->numa_mode > NUMA_BIND || t->huge_mode > HUGE_ALWAYS || t->log_clock > SHMA_LOG_COARSE)
		return -EINVAL;
	if (t->debug_mode > SHMA_DEBUG_SAMPLED || (t->debug_every && t->debug_mode != SHMA_DEBUG_SAMPLED))
		return -EINVAL;
	if ((t->numa_mode == NUMA_BIND) != (t->numa_nodes != 0))
		return -EINVAL;
	return 0;
}

static int flags_check(uint32_t type, uint32_t flags)
{
	if (type != REQUEST_ARENA_OPEN)
		return flags ? -EINVAL : 0;
	if (flags & ~(SHMA_CREATE | SHMA_EXCL | SHMA_RDONLY))
		return -EINVAL;
	return flags & SHMA_EXCL && !(flags & SHMA_CREATE) ? -EINVAL : 0;
}

/* A list starts after no name; the other calls about an arena need one. */
static int name_check(const struct request *r)
{
	uint32_t type = r->head.type;

	if (type == REQUEST_HELLO || type == REQUEST_STATUS)
		return r->name[0] ? -EINVAL : 0;
	if (type == REQUEST_ARENA_LIST && !r->name[0])
		return 0;
	return arena_name_check(r->name);
}

static int client_check(const struct request *r)
{
	if (r->head.type == REQUEST_CLIENT_ATTACHED)
		return r->client > 0 && r->client < CLIENTS_MAX ? 0 : -EINVAL;
	return r->client ? -EINVAL : 0;
}

static int descriptors_check(const struct request *r)
{
	const uint32_t needed = ARENA_FD_FILE | ARENA_FD_LIFE;

	if (r->head.type != REQUEST_ARENA_PRESENT)
		return r->descriptors ? -EINVAL : 0;
	return !r->descriptors || (r->descriptors & ~ARENA_FD_HEAP) == needed ? 0 : -EINVAL;
}

static int terms_check(const struct request *r)
{
	if (r->head.type == REQUEST_ARENA_CREATE || r->flags & SHMA_CREATE)
		return protocol_terms_check(&r->terms);
	return all_zero(&r->terms, sizeof r->terms) ? 0 : -EINVAL;
}

int protocol_request_check(const void *bytes, size_t length, struct request *ret)
{
	int err;

	memset(ret, 0, sizeof *ret);
	err = head_check(bytes, length, &ret->head);
	if (err)
		return err;
	if (length != sizeof *ret)
		return -EBADMSG;
	memcpy(ret, bytes, sizeof *ret);
	if (!text_padded(ret->name, sizeof ret->name))
		return -EBADMSG;
	if (!ret->head.type || ret->head.type >= REQUEST_TYPES || ret->head.error)
		return -EINVAL;
	if (!all_zero(ret->reserved, sizeof ret->reserved))
		return -EINVAL;
	err = flags_check(ret->head.type, ret->flags);
	if (!err)
		err = name_check(ret);
	if (!err)
		err = client_check(ret);
	if (!err)
		err = descriptors_check(ret);
	return err ? err : terms_check(ret);
}

void protocol_reply(struct reply *ret, const struct request *request, int error)
{
	memset(ret, 0, sizeof *ret);
	head_make(&ret->head, request->head.type);
	ret->head.serial = request->head.serial;
	ret->head.error = error;
}

int protocol_reply_check(const void *bytes, size_t length, struct reply *ret)
{
	int err;

	memset(ret, 0, sizeof *ret);
	err = head_check(bytes, length, &ret->head);
	if (err)
		return err;
	if (length != sizeof *ret)
		return -EBADMSG;
	memcpy(ret, bytes, sizeof *ret);
	if (ret->head.error > 0 || ret->head.error < -4095)
		return -EBADMSG;
	if (ret->arena.descriptors & ~(ARENA_FD_FILE | ARENA_FD_LIFE | ARENA_FD_HEAP))
		return -EBADMSG;
	if (!text_padded(ret->arena.name, sizeof ret->arena.name) ||
	    !text_padded(ret->status.io, sizeof ret->status.io) ||
	    !text_padded(ret->status.release, sizeof ret->status.release) ||
	    !text_padded(ret->log_dir, sizeof ret->log_dir) || !text_padded(ret->log.ship, sizeof ret->log.ship))
		return -EBADMSG;
	if (ret->log.disk > 0 || ret->log.disk < -4095)
		return -EBADMSG;
	return 0;
}
