/* SPDX-License-Identifier: Apache-2.0 */
/*
 * child.c - the driver as child: loads one peer and runs one workload, or joins one.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"

/* In the build's tree the plug-in's library is not installed yet: who has it already looks no farther. */
static void load_built_library(void)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/../../.libs/libshmalloc.so", opt.plugins);
	if (!access(path, R_OK) && !dlopen(path, RTLD_NOW | RTLD_LOCAL))
		fprintf(stderr, "%s\n", dlerror());
}

static const struct peer_ops *load_peer(const struct bench_peer *peer, int create)
{
	struct peer_config config = {peer->name, opt.arena, (uint64_t)2 << 30, create};
	char path[4096], err[256] = "";
	const struct peer_ops *ops;
	peer_open_fn *open_fn;
	void *so;

	snprintf(path, sizeof(path), "%s/%s.so", opt.plugins, peer->plugin);
	if (access(path, R_OK)) {
		fprintf(stderr, "not built: %s\n", path);
		return NULL;
	}
	if (!strcmp(peer->plugin, "peer_shmalloc"))
		load_built_library();
	so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!so) {
		fprintf(stderr, "%s\n", dlerror());
		return NULL;
	}
	open_fn = (peer_open_fn *)dlsym(so, "peer_open");
	ops = open_fn ? open_fn(&config, err, sizeof(err)) : NULL;
	if (!ops)
		fprintf(stderr, "%s\n", open_fn ? err : dlerror());
	return ops;
}

int child_main(const char *work_name)
{
	const struct bench_peer *peer = peer_find(opt.child);
	struct run r = {
		.peer_name = opt.child,
		.plugins = opt.plugins,
		.work = workload_find(work_name),
		.arena = opt.arena,
		.trace = opt.trace,
		.seconds = opt.seconds,
		.ops = opt.ops,
		.cpu = {opt.cpu[0], opt.cpu[1]},
		.ncpu = opt.ncpu,
		.tiny = opt.tiny,
	};
	int e;

	if (!peer || !opt.arena || (!r.work && strcmp(work_name, "version")))
		return 2;
	if (!opt.join)
		work_pin(r.cpu[0]);
	r.peer = load_peer(peer, !opt.join);
	if (!r.peer)
		return 4;
	if (!r.work) {
		printf("%s\n", r.peer->version);
		return 0;
	}
	if (opt.join)
		return work_join(&r, opt.join, opt.gate_fd, opt.index);
	e = r.work->run(&r);
	if (e)
		fprintf(stderr, "%s: %s\n", work_name, strerror(-e));
	return e ? 1 : 0;
}
