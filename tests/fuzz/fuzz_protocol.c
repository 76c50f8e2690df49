/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_protocol.c - messages from a socket, for the daemon and for a client. Promises: what is accepted
 * is what was sent, has a name that ends, and is accepted again; what is not this protocol at all leaves
 * the result's head alone.
 */
#include <errno.h>
#include <string.h>

#include "arena_file.h"
#include "fuzz.h"
#include "protocol.h"

static void check_request(const uint8_t *data, size_t size)
{
	struct request request, again;
	int r = protocol_request_check(data, size, &request);

	FUZZ_PROMISE(r == 0 || r == -EINVAL || r == -ENAMETOOLONG || r == -EPROTO || r == -EBADMSG);
	if (r)
		return;
	FUZZ_PROMISE(size == sizeof(request));
	FUZZ_PROMISE(memcmp(&request, data, sizeof(request)) == 0);
	FUZZ_PROMISE(memchr(request.name, 0, sizeof(request.name)) != NULL);
	FUZZ_PROMISE(!request.name[0] || arena_name_check(request.name) == 0);
	FUZZ_PROMISE(request.head.type > 0 && request.head.type < REQUEST_TYPES);
	FUZZ_PROMISE(protocol_request_check(&request, sizeof(request), &again) == 0);
	if (request.head.type == REQUEST_ARENA_CREATE)
		FUZZ_PROMISE(protocol_terms_check(&request.terms) == 0);
}

static void check_reply(const uint8_t *data, size_t size)
{
	struct reply reply;
	int r = protocol_reply_check(data, size, &reply);

	FUZZ_PROMISE(r == 0 || r == -EPROTO || r == -EBADMSG);
	if (r)
		return;
	FUZZ_PROMISE(size == sizeof(reply));
	FUZZ_PROMISE(memchr(reply.arena.name, 0, sizeof(reply.arena.name)) != NULL);
	FUZZ_PROMISE(reply.head.error <= 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	check_request(data, size);
	check_reply(data, size);
	return 0;
}

/* A request of each type, with and without a name, and the reply to each. */
size_t fuzz_seed(unsigned i, uint8_t *bytes)
{
	enum request_type type = (enum request_type)(1 + i / 2 % (REQUEST_TYPES - 1));
	struct request request;
	struct reply reply;

	if (i >= 4 * (REQUEST_TYPES - 1))
		return 0;
	protocol_request(&request, type, i & 1 ? "some-arena" : NULL);
	request.terms.capacity = CAPACITY_MIN << (i % 4);
	if (i < 2 * (REQUEST_TYPES - 1)) {
		memcpy(bytes, &request, sizeof(request));
		return sizeof(request);
	}
	protocol_reply(&reply, &request, i % 3 ? 0 : -ENOENT);
	memcpy(bytes, &reply, sizeof(reply));
	return sizeof(reply);
}
