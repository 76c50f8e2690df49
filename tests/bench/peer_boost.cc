/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_boost.cc - Boost.Interprocess: managed_shared_memory with its default algorithm, rbtree_best_fit
 * under one process-shared mutex. The general allocator that programs share memory with today. The other
 * peer, boost-node, is its cached_node_allocator: objects of one size, each thread with an allocator and so
 * with a cache of its own.
 */
#include "peer.h"

#include <boost/interprocess/allocators/cached_node_allocator.hpp>
#include <boost/interprocess/managed_shared_memory.hpp>
#include <boost/version.hpp>
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

static struct peer_ops ops;

const struct peer_ops *peer_open(const struct peer_config *config, char *err, size_t err_size)
{
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
