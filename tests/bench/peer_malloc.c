/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_malloc.c - the private mallocs. The library is loaded for this plug-in alone (RTLD_LOCAL), so
 * that the driver's own malloc stays the C library's, and its malloc is found in it by name.
 */
#include "peer.h"

#include <dlfcn.h>
#include <gnu/libc-version.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *(*malloc_fn)(size_t);
static void (*free_fn)(void *);

static peer_ref private_alloc(size_t size)
{
	return (peer_ref)malloc_fn(size);
}

static void private_free(peer_ref ref)
{
	free_fn((void *)ref);
}

static struct peer_ops ops = {
	.alloc = private_alloc,
	.free = private_free,
};

static char version[64];

static void glibc_version(void *lib)
{
	(void)lib;
	snprintf(version, sizeof(version), "glibc %s", gnu_get_libc_version());
}

static void jemalloc_version(void *lib)
{
	int (*ctl)(const char *, void *, size_t *, void *, size_t) = dlsym(lib, "mallctl");
	const char *text = "?";
	size_t size = sizeof(text);

	if (ctl)
		ctl("version", &text, &size, NULL, 0);
	snprintf(version, sizeof(version), "jemalloc %.20s", text);
}

static void mimalloc_version(void *lib)
{
	int (*get)(void) = dlsym(lib, "mi_version");

	snprintf(version, sizeof(version), "mimalloc %d", get ? get() : 0);
}

static void tcmalloc_version(void *lib)
{
	const char *(*get)(int *, int *, const char **) = dlsym(lib, "tc_version");

	snprintf(version, sizeof(version), "%s", get ? get(NULL, NULL, NULL) : "?");
}

static const struct {
	const char *variant, *library, *malloc_name, *free_name, *package;
	void (*get_version)(void *);
} known[] = {
	{"glibc", NULL, "malloc", "free", "libc6", glibc_version},
	{"jemalloc", "libjemalloc.so.2", "malloc", "free", "libjemalloc2", jemalloc_version},
	{"mimalloc", "libmimalloc.so.2", "mi_malloc", "mi_free", "libmimalloc2.0",
	 mimalloc_version},
	{"tcmalloc", "libtcmalloc_minimal.so.4", "tc_malloc", "tc_free", "libtcmalloc-minimal4",
	 tcmalloc_version},
};

/* Whether symbol comes from the library asked for, and not from one that was there before. */
static int is_from(void *symbol, const char *library)
{
	Dl_info info;

	return !library ||
	       (dladdr(symbol, &info) && info.dli_fname && strstr(info.dli_fname, library));
}

const struct peer_ops *peer_open(const struct peer_config *config, char *err, size_t err_size)
{
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		void *lib;

		if (strcmp(known[i].variant, config->variant))
			continue;
		lib = dlopen(known[i].library, RTLD_NOW | RTLD_LOCAL);
		if (!lib) {
			snprintf(err, err_size, "%s (Debian package %s)", dlerror(),
				 known[i].package);
			return NULL;
		}
		malloc_fn = (void *(*)(size_t))dlsym(lib, known[i].malloc_name);
		free_fn = (void (*)(void *))dlsym(lib, known[i].free_name);
		if (!malloc_fn || !free_fn || !is_from((void *)malloc_fn, known[i].library) ||
		    !is_from((void *)free_fn, known[i].library)) {
			snprintf(err, err_size, "%s has no %s of its own", known[i].library,
				 known[i].malloc_name);
			return NULL;
		}
		known[i].get_version(lib);
		ops.version = version;
		return &ops;
	}
	snprintf(err, err_size, "no such variant: %s", config->variant);
	return NULL;
}
