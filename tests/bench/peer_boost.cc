/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_boost.cc - Boost.Interprocess: managed_shared_memory with its default algorithm, rbtree_best_fit
 * under one process-shared mutex. The general allocator that programs share memory with today.
 */
#include "peer.h"

#include <boost/interprocess/managed_shared_memory.hpp>
#include <boost/version.hpp>
#include <cstdio>
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
	return &ops;
}
