/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_boost.cc - Boost.Interprocess: managed_shared_memory with its default algorithm, rbtree_best_fit
 * under one process-shared mutex. The general allocator that programs share memory with today. The other
 * peer, boost-mq, is its message_queue, and boost-node its cached_node_allocator: objects of one size, each thread with an allocator and so
 * with a cache of its own.
 */
#include "peer.h"

#include <boost/interprocess/allocators/cached_node_allocator.hpp>
#include <boost/date_time/posix_time/posix_time_types.hpp>
#include <boost/interprocess/ipc/message_queue.hpp>
#include <boost/interprocess/managed_shared_memory.hpp>
#include <boost/version.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>

namespace bi = boost::interprocess;

static bi::managed_shared_memory *segment;

static peer_ref boost_alloc(size_t size)
{
	return reinterpret_cast<peer_ref>(segment->allocate(size, std::nothrow));
}

static void boost_free(peer_ref ref)
{
	segment->deallocate(reinterpret_cast<void *>(ref));
}

static uint64_t boost_token(peer_ref ref)
{
	return static_cast<uint64_t>(segment->get_handle_from_address(reinterpret_cast<void *>(ref)));
}

static peer_ref boost_untoken(uint64_t token)
{
	auto handle = static_cast<bi::managed_shared_memory::handle_t>(token);

	return reinterpret_cast<peer_ref>(segment->get_address_from_handle(handle));
}

/* ---- objects of one size ---- */

struct node {
	char bytes[128];
};
using node_allocator =
	bi::cached_node_allocator<node, bi::managed_shared_memory::segment_manager>;

/* Never destroyed: the process ends with the measurement. */
static node_allocator &nodes()
{
	static thread_local node_allocator *mine;

	if (__builtin_expect(!mine, 0))
		mine = new node_allocator(segment->get_segment_manager());
	return *mine;
}

static peer_ref node_alloc(size_t size)
{
	if (size > sizeof(node))
		return 0;
	return reinterpret_cast<peer_ref>(bi::ipcdetail::to_raw_pointer(nodes().allocate_one()));
}

static void node_free(peer_ref ref)
{
	nodes().deallocate_one(reinterpret_cast<node *>(ref));
}

/* ---- message queue ---- */

static const char *queue_name;
static bi::message_queue *messages;
static size_t length;

static void forked(int)
{
}

static int queue_make(size_t len)
{
	length = len;
	try {
		messages = new bi::message_queue(bi::create_only, queue_name, 1024, len);
	} catch (const std::exception &) {
		return -EIO;
	}
	bi::message_queue::remove(queue_name); /* forked processes inherit the mapping */
	return 0;
}

static bool queue_send(const void *record)
{
	return messages->try_send(record, length, 0);
}

static bool queue_receive(void *record)
{
	bi::message_queue::size_type got;
	unsigned priority;

	return messages->try_receive(record, length, got, priority);
}

static bool queue_wait(void *record)
{
	bi::message_queue::size_type got;
	unsigned priority;
	auto end = boost::posix_time::microsec_clock::universal_time() +
		   boost::posix_time::milliseconds(100);

	return messages->timed_receive(record, length, got, priority, end);
}

static struct peer_queue queue;

static struct peer_ops ops;

const struct peer_ops *peer_open(const struct peer_config *config, char *err, size_t err_size)
{
	if (!std::strcmp(config->variant, "boost-mq")) {
		queue_name = config->arena;
		queue.make = queue_make;
		queue.send = queue_send;
		queue.receive = queue_receive;
		queue.wait = queue_wait;
		ops.version = "Boost.Interprocess " BOOST_LIB_VERSION " message_queue";
		ops.forked = forked;
		ops.queue = &queue;
		return &ops;
	}
	try {
		if (config->create)
			segment = new bi::managed_shared_memory(bi::create_only, config->arena,
								config->capacity);
		else
			segment = new bi::managed_shared_memory(bi::open_only, config->arena);
	} catch (const std::exception &e) {
		snprintf(err, err_size, "%s: %s", config->arena, e.what());
		return nullptr;
	}
	ops.version = "Boost.Interprocess " BOOST_LIB_VERSION " rbtree_best_fit";
	ops.alloc = boost_alloc;
	ops.free = boost_free;
	ops.alloc_shared = boost_alloc;
	ops.token = boost_token;
	ops.untoken = boost_untoken;
	if (!std::strcmp(config->variant, "boost-node")) {
		ops.version = "Boost.Interprocess " BOOST_LIB_VERSION " cached_node_allocator, 128 B";
		ops.alloc = ops.alloc_shared = node_alloc;
		ops.free = node_free;
	}
	return &ops;
}
